"""Every option does what it says on every path that takes it, or is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cli.client import engine_model
from engine.errors import InputError
from tests.engine.weights.served import live
from training.config.score_file import read_score_config


def test_a_model_of_the_hub_is_started_with_no_longer_context_than_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.json").write_text('{"n_positions": 1024}')
    monkeypatch.setattr("engine.weights.models.local_folder", lambda _: tmp_path)
    assert engine_model("gpt2", None, trust_remote_code=False).max_model_len == 1024


def test_a_template_file_in_the_config_of_score_race_and_eval(tmp_path: Path) -> None:
    (tmp_path / "own.jinja").write_text("{{ definition }}: {{ input }}")
    path = tmp_path / "score.toml"
    path.write_text("[prompt]\nlayout = 'template'\ntemplate_file = 'own.jinja'\n")
    prompt = read_score_config(path, {}, {}).prompt
    assert (prompt.template, prompt.template_name) == ("{{ definition }}: {{ input }}", "own.jinja")
    path.write_text("[prompt]\nlayout = 'template'\ntemplate_file = 'absent'\n")
    with pytest.raises(
        InputError, match=r"score.toml, field 'prompt.template_file': .*absent: cannot be"
    ):
        read_score_config(path, {}, {})
    path.write_text("prompt = 3\n")
    with pytest.raises(InputError, match="field 'prompt'"):
        read_score_config(path, {}, {})


@pytest.mark.parametrize(
    "words",
    [
        ("score", "POOL", "-o", "s.parquet", "--design", "auto", "--budget", 9_000),
        ("race", "POOL", "-o", "s.txt", "-n", 2, "--budget", 9_000),
        ("pool", "stats", "POOL"),
        ("pool", "show", "POOL", "--prompt"),
        ("eval", "POOL"),
    ],
)
@pytest.mark.parametrize("given", [False, True])
def test_code_of_a_model_runs_only_where_it_may(
    words: tuple[str, ...], given: bool, jostle: Any, pool: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    seen: list[bool] = []

    def load(_location: str, *, trust_remote_code: bool = False, **_: Any) -> None:
        seen.append(trust_remote_code)
        raise InputError("seen")

    monkeypatch.setattr("transformers.AutoTokenizer.from_pretrained", load)
    monkeypatch.setattr("engine.client.EngineClient.weights", lambda _: live("base"))
    monkeypatch.chdir(tmp_path)
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    option = ("--trust-remote-code",) if given else ()
    words = tuple(str(pool) if word == "POOL" else word for word in words)
    code, shown = jostle(*words, "--model", model, *option)
    assert (code, seen) == (2, [given]), shown


@pytest.mark.parametrize(
    "words",
    [
        ("score", "POOL", "-o", "s.parquet", "--url", "http://a", "--url", "http://b"),
        ("race", "POOL", "-o", "s.txt", "-n", 2, "--budget", 9, "--url=http://a", "--url=http://b"),
        ("bench", "logprobs", "--url", "http://a", "--url=http://b"),
        ("eval-harness", "--url", "http://a", "--tasks", "t", "--url", "http://b"),
        ("eval", "POOL", "--url", "http://a", "--url", "http://b"),
    ],
)
def test_a_second_engine_is_refused_where_one_is_asked(
    words: tuple[Any, ...], jostle: Any, pool: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    code, shown = jostle(*(pool if word == "POOL" else word for word in words))
    assert (code, "is given twice; one engine is asked here" in shown) == (2, True), shown


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("run", "c.toml", "--pairs-per-second", 3), "'--pairs-per-second': goes with --dry-run"),
        (("run", "c.toml", "--resume", "--dry-run"), "'--resume': does not go with --dry-run"),
        (("measures", "-o", "m.parquet"), "'--output': goes with PAIRS"),
        (("measures", "--into", "m.parquet"), "'--into': goes with PAIRS"),
        (("status", ".", "--follow", "--json"), "'--json': does not go with --follow"),
        (("pool", "stats", "POOL", "--trust-remote-code"), "goes with --model"),
        (("pool", "show", "POOL", "--instance", 2), "'--instance': goes with --prompt"),
    ],
)
def test_an_option_without_effect_is_refused(
    words: tuple[str, ...], complaint: str, jostle: Any, pool: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    code, shown = jostle(*(pool if word == "POOL" else word for word in words))
    assert code == 2, shown
    assert complaint in shown
