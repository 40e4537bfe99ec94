"""What `jostle score`, `race` and `eval` are asked: a TOML file, and options that win over it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from engine.errors import InputError
from engine.protocol.score_config import ScoreConfig
from engine.questions.question_registry import QUESTIONS, find_question
from engine.validation import validated
from training.config.toml_file import put_template, read_toml


def read_score_config(
    file: Path | None, options: dict[str, Any], sampling: dict[str, Any]
) -> ScoreConfig:
    """The config of a file with the options that were given put in.

    Args:
        options: Values of its fields; None: not given.
        sampling: The same of the fields of `sampling`.

    Raises:
        InputError: If a value is wrong, or samples are described and none are drawn.
    """
    values: dict[str, Any] = {}
    if file is not None:
        values = read_toml(file)
        put_template(values.get("prompt"), file.parent, file, "prompt")
    values |= {name: value for name, value in options.items() if value is not None}
    if given := {name: value for name, value in sampling.items() if value is not None}:
        before = values.get("sampling", {})
        values["sampling"] = (before if isinstance(before, dict) else {}) | given
    config = validated(ScoreConfig, values, file)
    question = find_question(config, file)
    if given and not (question and question.draws):
        option = {"n_samples": "--samples", "temperature": "--temperature", "top_p": "--top-p"}
        names = " or ".join(name for name, each in QUESTIONS.items() if each.draws)
        raise InputError(f"goes with --measure {names}", field=option[next(iter(given))])
    return config
