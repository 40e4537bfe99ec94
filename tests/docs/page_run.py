"""Runs the blocks of a page in order, in one folder, as its reader would."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from cli import main as cli_main
from tests.docs.page_blocks import ROOT, Block, commands

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
MAKEFILE = (ROOT / "Makefile").read_text()
PARSED = {"serve", "demo", "sweep", "publish", "reload", "eval-harness", "bench"}
"""Commands that start servers or trainers, or change a server; each has tests of its own."""
ASKS = {"score": "tasks", "race": "tasks", "logprobs": "pairs"}
"""Commands that start an engine unless they are given one, and which stand-in answers them."""


class PageRun:
    """A folder in which the blocks of a page are run.

    Args:
        folder: An empty folder, which is the current one.
        urls: Address of each stand-in that `ASKS` names.
    """

    def __init__(
        self,
        folder: Path,
        urls: dict[str, str],
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        self._folder, self._urls = folder, urls
        self._patch, self._capsys = monkeypatch, capsys

    def run(self, block: Block) -> None:
        """Does with a block what its language and comment say."""
        if block.file is not None:
            path = self._folder / block.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text)
        check = CHECKS.get(block.language)
        assert check or block.language in ("sh", "python"), f"{block.place}: say its language"
        if check:
            check(block.text)
        elif block.language == "python" and (block.parsed or "test_" in (block.file or "")):
            compile(block.text, block.place, "exec")
        elif block.language == "python":
            exec(compile(block.text, block.place, "exec"), {"__name__": "__main__"})
        elif not block.parsed:
            for line in commands(block):
                self._command(line, block)
        else:
            for line in commands(block):
                parse_command(line)

    def _command(self, line: str, block: Block) -> None:
        words = shlex.split(line)
        if "|" in words:
            code, shown = self._shell(words)
        elif words[0] == "jostle" and not runs_long(words):
            code, shown = self._jostle(words[1:])
        else:
            parse_command(line)
            return
        assert code == block.exit, f"{block.place}: {line}: {shown}"
        assert " ".join(block.said.split()) in " ".join(shown.split()), f"{block.place}: {shown}"

    def _asking(self, words: list[str]) -> list[str]:
        if words[0] in ASKS and "--url" not in words:
            return [*words, "--url", self._urls[ASKS[words[0]]]]
        return words

    def _jostle(self, words: list[str]) -> tuple[int, str]:
        self._patch.setattr(sys, "argv", ["jostle", *self._asking(words)])
        with pytest.raises(SystemExit) as stop:
            cli_main.main()
        shown = self._capsys.readouterr()
        return int(stop.value.code or 0), shown.out + shown.err

    def _shell(self, words: list[str]) -> tuple[int, str]:
        at = words.index("jostle")
        program = shlex.join([sys.executable, "-m", "cli.main", *self._asking(words[at + 1 :])])
        before = " ".join(word if word == "|" else shlex.quote(word) for word in words[:at])
        done = subprocess.run(
            f"{before} {program}",
            shell=True,
            env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
        )
        return done.returncode, done.stdout + done.stderr


def runs_long(words: list[str]) -> bool:
    """Whether a command of ours is only parsed."""
    return words[1] in PARSED or (words[1] == "run" and "--dry-run" not in words)


def parse_command(line: str) -> None:
    """That a command is one: ours by its own parser, others by the files that they name."""
    words = shlex.split(line)
    known = OTHERS.get(words[0])
    assert words[0] == "jostle" or known, f"no test knows how to run: {line}"
    if known:
        known(words[1:])
        return
    import typer.main

    command: Any = typer.main.get_command(cli_main.app)
    with ExitStack() as contexts:
        context = contexts.enter_context(command.make_context("jostle", words[1:]))
        while hasattr(command, "resolve_command"):
            rest = [*context._protected_args, *context.args]
            name, command, rest = command.resolve_command(context, rest)
            context = contexts.enter_context(command.make_context(name, rest, parent=context))


def _make(words: list[str]) -> None:
    targets = [word for word in words if "=" not in word]
    for target in targets:
        assert re.search(rf"^{target}:", MAKEFILE, re.MULTILINE), f"no target {target}"


def _pip(words: list[str]) -> None:
    for word in words:
        if name := re.fullmatch(r"(?:dist/)?jostle(-[0-9.]+)?\S*?\[([\w,]+)\]", word):
            assert name[1] in (None, f"-{PROJECT['version']}-", f"-{PROJECT['version']}")
            assert set(name[2].split(",")) <= PROJECT["optional-dependencies"].keys()
        elif word.startswith("./"):
            assert (ROOT / word).exists(), word


def _python(words: list[str]) -> None:
    if words[:1] == ["-m"] and words[1] not in ("venv", "build", "pip", "pytest", "sphinx"):
        path = ROOT / words[1].replace(".", "/")
        assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file(), words[1]
    elif words[:1] and words[0].endswith(".py"):
        assert (ROOT / words[0]).is_file(), words[0]


def _docker(words: list[str]) -> None:
    for option, name in pairwise(words):
        if option in ("-f", "--file"):
            assert (ROOT / name).is_file(), name


def _any(words: list[str]) -> None:
    pass


OTHERS: dict[str, Callable[[list[str]], None]] = {
    "make": _make,
    "pip": _pip,
    "python": _python,
    "python3.11": _python,
    ".venv/bin/python": _python,
    "docker": _docker,
    "cp": _any,
    "git": _any,
    "cd": _any,
    "source": _any,
    "export": _any,
    "curl": _any,
    ".venv/bin/pre-commit": _any,
}


def _json(text: str) -> None:
    try:
        json.loads(text)
    except ValueError:
        for line in text.splitlines():
            json.loads(line)


def _toml(text: str) -> None:
    """TOML; what has sections of a run's config, and no other ones, is one."""
    from training.config.run_config import RunConfig, parse_config

    values = tomllib.loads(text)
    if values.keys() <= RunConfig.model_fields.keys():
        for word in parse_config(values, "the page").train.launcher:
            assert not word.endswith(".yaml") or (ROOT / word).is_file(), word


def _yaml(text: str) -> None:
    import yaml  # type: ignore[import-untyped,unused-ignore]

    yaml.safe_load(text)


CHECKS: dict[str, Callable[[str], object]] = {
    "json": _json,
    "toml": _toml,
    "yaml": _yaml,
    "csv": str,
    "jinja": str,
    "nginx": str,
    "text": str,
    "bibtex": str,
    "{toctree}": str,
    "diff": str,
}


def stand_ins() -> Iterator[dict[str, str]]:
    """Addresses of running stand-ins."""
    from tests.training.http_engine import http_engine
    from tests.training.pair_files.pair_server import pair_server

    with http_engine() as tasks, pair_server() as pairs:
        yield {"tasks": tasks.url, "pairs": pairs.url}
