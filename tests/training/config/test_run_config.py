from __future__ import annotations

from pathlib import Path

import pytest

from engine.errors import InputError
from training.config.run_config import RunConfig, config_differences, load_config
from training.selection.groups import PerCategory


def write(folder: Path, text: str) -> Path:
    path = folder / "config.toml"
    path.write_text(text)
    return path


def test_a_dumped_config_loads_as_itself(tmp_path: Path) -> None:
    config = RunConfig.model_validate(
        {"train": {"launcher": ["srun", "-n2"]}, "pool": {"max_tasks": 3}, "rounds": 4}
    )
    loaded = load_config(write(tmp_path, config.to_toml()))
    assert loaded == config
    assert loaded.digest() == config.digest()


def test_every_field_is_part_of_the_digest() -> None:
    assert RunConfig().digest() != RunConfig(rounds=3).digest()
    assert RunConfig().digest() != RunConfig.model_validate({"train": {"seed": 1}}).digest()


@pytest.mark.parametrize(
    ("text", "field", "problem"),
    [
        (
            "[train]\nlearning_rat = 1e-4\n",
            "train.learning_rat",
            r"unknown key; valid.*learning_rate",
        ),
        ("rouns = 2\n", "rouns", "unknown key; valid here: checkpoints, engine, evaluate"),
        ("[score.prompt]\nlayot = 'x'\n", "score.prompt.layot", "valid here: chat_template"),
        (
            "[score.perturbation]\nname = 'drop_wrds'\n",
            "score.perturbation",
            "unknown perturbation 'drop_wrds'; valid here: drop_words, mask_words",
        ),
        (
            "[score.perturbation]\nname = 'typos'\nrat = 1\n",
            "score.perturbation",
            "unknown key rat; valid here: name, protect_labels, rate, targets",
        ),
        (
            "[score.prompt]\nlayout = 'alpacca'\n",
            "score.prompt.layout",
            "unknown layout 'alpacca'; valid here: super_natural_instructions, plain, alpaca, chat",
        ),
        (
            "[select]\nstrategy = 'luck'\n",
            "select.strategy.name",
            "unknown strategy 'luck'; valid here: prompt_uncertainty, flip_rate, output_dis",
        ),
        (
            "[select.strategy]\nname = 'random'\ndirection = 'low'\n",
            "select.strategy.direction",
            "unknown setting of random; valid: none",
        ),
        (
            "[select]\nstrategy = 'stratified'\n",
            "select.strategy.column",
            "Field required",
        ),
        (
            "[select.strategy]\nname = 'mix'\n[[select.strategy.parts]]\nshare = 1.0\n"
            "strategy = {name = 'classification_share', share = 2.0}\n",
            "select.strategy.parts.0.strategy.share",
            "less than or equal to 1",
        ),
        ("[train]\nbatch_size = 0\n", "train.batch_size", "greater than or equal to 1"),
        ("[train]\nstart_from = 'first'\n", "train.start_from", "'base' or 'last'"),
        ("rounds = 'two'\n", "rounds", "valid integer"),
        ("[train]\npublish = 'adapter'\n", "train", "needs a section train.lora"),
        (
            "[train]\npublish = 'adapter'\nstart_from = 'last'\nlora = {}\n",
            "train",
            'needs start_from = "base"',
        ),
    ],
)
def test_faults_name_file_and_field(tmp_path: Path, text: str, field: str, problem: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(InputError, match=problem) as caught:
        load_config(path)
    assert caught.value.file == str(path)
    assert caught.value.field == field


def test_a_strategy_has_settings(tmp_path: Path) -> None:
    named = load_config(write(tmp_path, "[select]\nstrategy = 'per_category'\n"))
    assert named.select.strategy == PerCategory()
    text = "[select.strategy]\nname = 'per_category'\ncolumn = 'map_category'\n"
    config = load_config(write(tmp_path, text))
    assert config.select.strategy == PerCategory(column="map_category")
    assert load_config(write(tmp_path, config.to_toml())) == config
    assert config.digest() != named.digest()
    assert config_differences(named, config) == ["select.strategy.column: category -> map_category"]


def test_what_is_not_toml_is_told_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"config.toml: not valid TOML: .*line 2"):
        load_config(write(tmp_path, "rounds = 1\nrounds 2\n"))
    with pytest.raises(InputError, match="cannot be read"):
        load_config(tmp_path / "absent.toml")


def test_differences_name_the_fields() -> None:
    other = RunConfig.model_validate({"train": {"learning_rate": 0.5}, "seed": 3})
    assert config_differences(RunConfig(), other) == [
        "train.learning_rate: 1e-05 -> 0.5",
        "seed: 0 -> 3",
    ]


def test_rows_are_never_longer_than_the_context() -> None:
    values = {"model": {"max_model_len": 100}, "train": {"max_length": 200}}
    assert RunConfig.model_validate(values).max_row_length == 100
    assert RunConfig.model_validate({"train": {"max_length": 200}}).max_row_length == 200


def test_a_config_file_names_a_template_file(tmp_path: Path) -> None:
    (tmp_path / "my.jinja").write_text("{{ definition }}: {{ input }}\n")
    path = tmp_path / "run.toml"
    path.write_text("[score.prompt]\nlayout = 'template'\ntemplate_file = 'my.jinja'\n")
    prompt = load_config(path).score.prompt
    assert (prompt.template, prompt.template_name) == (
        "{{ definition }}: {{ input }}\n",
        "my.jinja",
    )
    resolved = tmp_path / "resolved.toml"
    resolved.write_text(load_config(path).to_toml())
    assert load_config(resolved) == load_config(path)
    path.write_text("[score.prompt]\nlayout = 'template'\ntemplate_file = 'absent'\n")
    with pytest.raises(InputError, match="cannot be read") as caught:
        load_config(path)
    assert (caught.value.file, caught.value.field) == (str(path), "score.prompt.template_file")
