"""The command `jostle`: its subcommands, and how errors reach the person who typed it."""

from __future__ import annotations

import errno
import io
import json
import logging
import os
import shlex
import sys
from itertools import takewhile
from typing import Annotated, Any, NoReturn

import typer
import typer.core

from cli.bench import app as bench_app
from cli.compare import compare
from cli.config import app as config_app
from cli.demo import demo
from cli.doctor import doctor
from cli.eval_harness import PASSES_ON, eval_harness
from cli.evaluate import evaluate, judge
from cli.logprobs import logprobs
from cli.map import task_map
from cli.measures import measures
from cli.pool import app as pool_app
from cli.publish import publish
from cli.race import race
from cli.reload import reload
from cli.report import report
from cli.run import run
from cli.score import score
from cli.select import select, strategies
from cli.serve import serve
from cli.status import status
from cli.sweep import sweep
from cli.terminal import fitted
from cli.train import train
from cli.version import print_version, version
from engine.errors import EXIT_GAVE_UP, EngineError, GaveUpError, InputError, TrainingError

RESUMABLE = ("demo", "run", "sweep", "score", "race", "logprobs", "train", "judge")
"""Commands that go on where they were stopped when they are called again."""

KEYS = ("--api-key", "--admin-key")
"""Options whose values are for nobody's eyes."""

STOPPED = 130
"""Exit code after Ctrl-C, as shells have it."""


class Commands(typer.core.TyperGroup):
    """The subcommands; how to go on after Ctrl-C, or after an engine died, is said in a line."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The subcommand; of an option that is given twice the last would count alone.

        Raises:
            InputError: If that is an engine's address, and the subcommand asks one.
        """
        name, command, words = super().resolve_command(ctx, args)
        if command is not None and not ctx.resilient_parsing:
            given = [word.partition("=")[0] for word in takewhile("--".__ne__, words)]
            several = [option for each in command.params if each.multiple for option in each.opts]
            if given.count("--url") > 1 and "--url" not in several:
                raise InputError("is given twice; one engine is asked here", field="--url")
        return name, command, words

    def invoke(self, ctx: Any) -> Any:
        """Run the subcommand."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            again = f"; {_again()}" if ctx.invoked_subcommand in RESUMABLE else ""
            told = f"jostle: stopped{again}"
            _end("stopped", STOPPED, told, told)
        except (EngineError, TrainingError) as error:
            if ctx.invoked_subcommand in RESUMABLE:
                error.add_note(_again())
            raise


def _again() -> str:
    words, keys = ["jostle"], ""
    typed = iter(sys.argv[1:])
    for word in typed:
        option, equals, _ = word.partition("=")
        if option in KEYS:
            keys += f" {option} given again,"
            if not equals:
                next(typed, None)
        elif word != "--overwrite":  # what is begun stays
            words.append(word)
    return f"goes on from here{keys and ',' + keys} with: {shlex.join(words)}"


app = typer.Typer(
    name="jostle",
    help="Finds the tasks on which an instruction-tuned model wavers, and trains it on those.",
    epilog="Exit codes: 0 done; 1 the engine or the trainer failed; 2 wrong input; 70 a watched "
    "server failed too often; 130 stopped by Ctrl-C.",
    cls=Commands,
    no_args_is_help=True,
    # main() decides what an error looks like.
    pretty_exceptions_enable=False,
)
app.command()(demo)
app.command()(score)
app.command()(logprobs)
app.command()(select)
app.command()(race)
app.command("map")(task_map)
app.command()(measures)
app.command()(strategies)
app.command()(run)
app.command()(sweep)
app.command()(status)
app.command()(report)
app.command()(compare)
app.command()(serve)
app.command()(train)
app.command()(publish)
app.command()(reload)
app.command("eval")(evaluate)
app.command()(judge)
app.command("eval-harness", context_settings=PASSES_ON)(eval_harness)
app.command()(doctor)
app.command()(version)
app.add_typer(bench_app, name="bench")
app.add_typer(config_app, name="config")
app.add_typer(pool_app, name="pool")


@app.callback()
def settings(
    context: typer.Context,
    debug: Annotated[
        bool,
        typer.Option(
            "--debug", envvar="JOSTLE_DEBUG", help="Show our log and the traceback of an error."
        ),
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Progress and errors as JSON lines on standard error.")
    ] = False,
    show_version: Annotated[
        bool,
        typer.Option("--version", callback=print_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """What holds for every subcommand."""
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=logging.WARNING)
    if quiet or as_json:
        # Read by training.report.progress_lines, and by _fail below.
        os.environ["JOSTLE_PROGRESS"] = "json" if as_json else "quiet"
    if debug:
        # The processes we start, and main() below, read it from the environment.
        os.environ["JOSTLE_DEBUG"] = "1"
        for room in ("engine", "training", "cli"):
            logging.getLogger(room).setLevel(logging.DEBUG)


def main() -> None:
    """Runs the command line and exits.

    Exit codes: 0 for success, 1 if the engine or the trainer failed, 2 for anything wrong with the
    input (arguments, files, configs), 70 if a watched server failed too often, 130 after Ctrl-C.
    An error is one line on stderr, which a terminal shows broken between words; with `--debug` or
    `JOSTLE_DEBUG=1` it is a traceback.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # where letters are few, a sign for the others
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        app()
    except InputError as error:
        _fail(str(error), 2, error)
    except GaveUpError as error:
        _fail(str(error), EXIT_GAVE_UP, error)
    except (EngineError, TrainingError) as error:
        _fail("\n".join([str(error), *getattr(error, "__notes__", ())]), 1, error)
    except OSError as error:  # a name that is too long, a folder that may not be entered
        if error.filename is None and error.errno != errno.ENOSPC:
            raise
        where = "" if error.filename is None else f"{error.filename}: "
        _fail(f"{where}{error.strerror}", 2, error)
    except ValueError as error:
        described = _describe_validation(error)
        if described is None:
            raise
        _fail(described, 2, error)


def _fail(message: str, code: int, error: Exception) -> NoReturn:
    if os.environ.get("JOSTLE_DEBUG", "") not in ("", "0"):
        raise error
    # What the user can mend fits a line; what another process wrote before it died may not.
    line = " ".join(message.split()) if code == 2 else message
    _end("error", code, line, fitted(f"jostle: error: {line}", sys.stderr))


def _end(event: str, code: int, message: str, told: str) -> NoReturn:
    """Exits, having told a person so, or a program by the message."""
    if os.environ.get("JOSTLE_PROGRESS") == "json":
        told = json.dumps({"event": event, "exit": code, "message": message})
    print(told, file=sys.stderr)
    sys.exit(code)


def _describe_validation(error: ValueError) -> str | None:
    """The first complaint of pydantic as `config, field 'x.y': problem`; None for other errors."""
    if "pydantic" not in sys.modules:
        return None
    from pydantic import ValidationError

    from engine.validation import first_fault

    if not isinstance(error, ValidationError):
        return None
    problem, field = first_fault(error)
    more = f" (and {others} more)" if (others := error.error_count() - 1) else ""
    return str(InputError(problem + more, file=error.title, field=field))


if __name__ == "__main__":
    main()
