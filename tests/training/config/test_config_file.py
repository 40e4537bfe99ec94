"""The template is the schema, and overrides are what a file could have said."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from engine.errors import InputError
from training.config.config_file import config_template, read_config
from training.config.run_config import RunConfig, parse_config

EXAMPLES = Path(__file__).parents[3] / "examples"


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
        ("rounds", "expected KEY=VALUE"),
        (".rounds=1", "expected KEY=VALUE"),
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


def test_paths_in_a_config_start_from_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    for folder in (home / "models" / "mine", elsewhere):
        folder.mkdir(parents=True)
    for name in ("fsdp.yaml", "zero.json", "own.jinja"):
        (home / name).write_text("{{ definition }}")
    (elsewhere / "pool.jsonl").touch()
    (home / "accelerate").touch()
    path = home / "run.toml"
    path.write_text(
        """
        [model]
        name = "models/mine"
        [pool]
        path = "tasks"
        held_out = "../held"
        [score.prompt]
        layout = "template"
        template_file = "own.jinja"
        [train]
        launcher = ["accelerate", "launch", "--config_file", "fsdp.yaml", "--other=./fsdp.yaml"]
        arguments = { deepspeed = "zero.json", weight_decay = 0.1, optim = "adamw_torch" }
        [engine]
        flags = ["--chat-template=own.jinja", "--max-num-seqs=8"]
        """
    )
    monkeypatch.chdir(elsewhere)
    found = read_config(path)
    assert found.model.name == str(home / "models" / "mine")
    assert found.pool.path == str(home / "tasks")
    assert found.pool.held_out == str(tmp_path / "held")
    assert found.score.prompt.template == "{{ definition }}"
    yaml = home / "fsdp.yaml"
    assert found.train.launcher == (
        "accelerate", "launch", "--config_file", str(yaml), f"--other={yaml}"
    )  # fmt: skip
    assert found.train.arguments == {
        "deepspeed": str(home / "zero.json"), "weight_decay": 0.1, "optim": "adamw_torch"
    }  # fmt: skip
    assert found.engine.flags == (f"--chat-template={home / 'own.jinja'}", "--max-num-seqs=8")
    assert read_config(path, ["pool.path=pool.jsonl"]).pool.path == str(elsewhere / "pool.jsonl")
    monkeypatch.chdir(home)
    assert read_config(Path("run.toml")) == found


@pytest.mark.parametrize(
    ("section", "field", "given"),
    [
        ("model", "name", "smollm2-135m"),
        ("model", "name", "org/model"),
        ("pool", "path", "bundled"),
        ("pool", "path", "hub:org/set"),
        ("pool", "held_out", "auto"),
    ],
)
def test_what_is_no_path_stays(tmp_path: Path, section: str, field: str, given: str) -> None:
    path = tmp_path / "run.toml"
    path.write_text(f'[{section}]\n{field} = "{given}"\n')
    assert getattr(getattr(read_config(path), section), field) == given
