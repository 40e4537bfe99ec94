"""The template is the schema, and overrides are what a file could have said."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from engine.errors import InputError
from training.config import RunConfig, parse_config
from training.config_file import config_template, read_config

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_the_template_holds_the_defaults() -> None:
    assert parse_config(tomllib.loads(config_template()), "template") == RunConfig()


def test_the_template_explains_every_field() -> None:
    lines = config_template().splitlines()
    for number, line in enumerate(lines):
        if "=" in line and not line.startswith(("#", 'name = "drop_words')):
            assert lines[number - 1].startswith("# "), line
    for name in ("# keep_last =", "# [train.lora]", "# rank = 16", "[train.arguments]"):
        assert name in lines


def test_overrides_win_and_take_any_value(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("rounds = 4\n[train]\nlearning_rate = 1e-5\n")
    config = read_config(
        path,
        [
            "train.learning_rate=1e-4",
            "select.strategy=random",
            'train.launcher=["srun", "-n2"]',
            "train.lora.rank = 4",
            "train.arguments.weight_decay=0.1",
        ],
    )
    assert config.train.learning_rate == 1e-4
    assert config.select.strategy.name == "random"
    assert config.train.launcher == ("srun", "-n2")
    assert config.train.lora is not None
    assert config.train.lora.rank == 4
    assert config.train.arguments == {"weight_decay": 0.1}
    assert config.rounds == 4


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("rounds", "not of the form"),
        (".rounds=1", "not of the form"),
        ("rounds.x=1", "rounds is no section"),
        ("train.lerning_rate=1", "with --set.*unknown key; valid here: .*learning_rate"),
        ("train.lora.rang=1", "unknown key; valid here: alpha, dropout, rank"),
        ("train.arguments.save_steps=3", "arguments.save_steps is decided"),
        ("train.packing=true", "only with attention"),
    ],
)
def test_wrong_overrides_are_told(tmp_path: Path, override: str, problem: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text("rounds = 4\n")
    with pytest.raises(InputError, match=problem):
        read_config(path, [override])


def test_where_work_is_done_is_not_part_of_the_digest() -> None:
    moved = RunConfig.model_validate(
        {"engine": {"urls": ["http://a"], "port": 3}, "checkpoints": {"keep_last": 1}}
    )
    assert moved.digest() == RunConfig().digest()
    flagged = RunConfig.model_validate({"engine": {"flags": ["--dtype=float16"]}})
    assert flagged.digest() != RunConfig().digest()


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.toml")), ids=lambda path: path.name)
def test_examples_follow_the_schema(path: Path) -> None:
    read_config(path)
