"""`jostle eval-harness`: the evaluation harness on an engine of ours."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from cli.client import EngineModel, OwnUrl
from cli.pool import TrustRemoteCode

NO_HARNESS = "needs lm_eval, the evaluation harness: pip install jostle's wheel with [harness]"

PASSES_ON = {"allow_extra_args": True, "ignore_unknown_options": True}
"""What typer must know of a command whose other arguments are another's."""


def eval_harness(
    context: typer.Context,
    model: EngineModel = None,
    url: OwnUrl = None,
    max_model_len: Annotated[
        int | None,
        typer.Option(
            min=64,
            help="Its context, in tokens.",
            show_default="the model's own; with --url, the engine's",
        ),
    ] = None,
    engine_args: Annotated[
        str, typer.Option(help="Flags of vLLM for an engine that is started, in one word.")
    ] = "",
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Evaluate with lm_eval; all other arguments are its own, such as --tasks and --num_fewshot.

    `--model_args` add to what is said here; `engine.harness.jostle_lm.JostleLM` lists them.
    """
    from engine.errors import InputError

    try:
        import lm_eval.__main__ as harness  # type: ignore[import-untyped,import-not-found,unused-ignore]
    except ModuleNotFoundError as error:
        raise InputError(NO_HARNESS, field="eval-harness") from error
    import engine.harness.jostle_lm  # noqa: F401  registers the model

    given = {
        "model": model,
        "url": url,
        "max_length": max_model_len,
        "engine_args": engine_args or None,
        "trust_remote_code": trust_remote_code or None,
    }
    named = json.dumps({name: value for name, value in given.items() if value is not None})
    # The first is JSON, for a path may hold any letter; what the harness is given itself wins.
    sys.argv = ["lm_eval", "run", "--model", "jostle", "--model_args", named, *context.args]
    harness.cli_evaluate()
