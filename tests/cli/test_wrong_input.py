"""What is wrong with a command's input is said in one line, before an engine is started."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from training.selection.strategy_testing import draw_scores
from training.tables.table_files import read_table


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("score", "POOL", "-o", "s.csv"), "must end in .parquet"),
        (("score", "no/pool", "-o", "s.parquet"), "no such file or folder"),
        (("score", "POOL", "-o", "no/folder/s.parquet"), "no such folder"),
        (("score", "POOL", "-o", "s.parquet", "--model", "./no/model"), "no such model folder"),
        (("score", "BAD", "-o", "s.parquet"), "BAD.jsonl, record line 2"),
        (("score", "EMPTY", "-o", "s.parquet", "--gold"), "has no gold output to score"),
        (("score", "POOL", "-o", "s.parquet", "--config", "C"), "n_instance': unknown key; valid"),
        (("score", "POOL", "-o", "s.parquet", "--config", "D"), "unknown key; valid here: chat_"),
        (("score", "POOL", "-o", "s.parquet", "--samples", "3"), "'--samples': goes with --meas"),
        (("score", "POOL", "-o", "s.parquet", "--measure", "doubt"), "'measure': nothing called"),
        (
            ("score", "POOL", "-o", "s.parquet", "--config", "E", "--temperature", "0.001"),
            "field 'sampling': temperature must be 0 or at least 0.01",
        ),
        (
            ("score", "POOL", "-o", "s.parquet", "--config", "E", "--design", "auto"),
            "go together",
        ),
        (("select", "no.parquet", "-n", "1", "-o", "s.txt"), "no.parquet: no such file"),
        (("select", "POOL", "-n", "1", "-o", "s.txt"), "is no readable Parquet file"),
        (
            ("select", "SCORES", "-n", "1", "-o", "s.txt", "--strategy", "uncertain"),
            "unknown strategy 'uncertain'; valid here: prompt_uncertainty",
        ),
        (
            ("select", "SCORES", "-n", "1", "-o", "s.txt", "--set", "end=low"),
            "unknown setting of prompt_uncertainty; valid: direction",
        ),
        (("select", "SCORES", "-n", "1", "-o", "s.txt", "--set", "low"), "expected KEY=VALUE"),
        (("select", "SCORES", "-n", "1", "-o", "s.txt", "--force", "x"), "is forced and not"),
        (("publish", "no/folder"), "no/folder: no such folder"),
        (("reload", "no/folder"), "it has no manifest.json; jostle publish no/folder makes it one"),
        (("map", "SCORES", "-o", "map.pdf"), "must end in .html, .png or .svg"),
        (("map", "SCORES", "-o", "map.html", "--selected", "C"), "is selected and not scored"),
        (("measures", "SCORES"), "field 'instance_id': the column is missing"),
        (("measures", "SCORES", "--needs", "pair"), "'pair' is none of pairs, gold_pairs"),
        (("measures", "--measure", "doubt"), "unknown measure 'doubt'; valid here: prompt_unc"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_at_once(
    words: tuple[str, ...], complaint: str, jostle: Any, pool: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def no_engine(*_: object, **__: object) -> None:
        raise AssertionError("started an engine")

    monkeypatch.setattr("engine.process.engine_process.EngineProcess.start", no_engine)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "C").write_text("n_instance = 3\n")
    (tmp_path / "E").write_text('measure = "output_disagreement"\n')
    (tmp_path / "D").write_text("[prompt]\nexplanation = true\n")
    bare = {"id": "t", "definition": "Say.", "instances": [{"id": "i", "input": "x"}]}
    (tmp_path / "EMPTY.jsonl").write_text(json.dumps(bare) + "\n")
    (tmp_path / "BAD.jsonl").write_text(json.dumps(bare) + "\n" + '{"id": "u"}\n')
    draw_scores(5).write_parquet(tmp_path / "SCORES.parquet")
    names = {"POOL": pool, "BAD": "BAD.jsonl", "EMPTY": "EMPTY.jsonl", "SCORES": "SCORES.parquet"}
    code, shown = jostle(*(names.get(word, word) for word in words))
    assert code == 2, shown
    assert complaint in shown
    assert shown.count("\n") == 1 or "pairs\n" in shown


def test_a_name_with_brackets_is_no_pattern(tmp_path: Path) -> None:
    path = tmp_path / "s[1].parquet"
    draw_scores(2).write_parquet(path)
    assert read_table(path).height == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("column", "values", "complaint"),
    [
        ("prompt_uncertainty", ["high", "low"], "the column holds String, where Float64 belongs"),
        ("prompt_uncertainty", [True, False], "the column holds Boolean, where Float64 belongs"),
        ("prediction_probability", [[0.1], [0.2]], "holds List(Float64), where Float64 belongs"),
        ("task_id", [1, 2], "the column holds Int64, where String belongs"),
        ("task_id", ["a", None], "a task has no id"),
        ("selected", ["yes", "no"], "the column holds String, where Boolean belongs"),
        ("n_instances", [1.5, 2.0], "the column holds Float64, where Int64 belongs"),
        ("definition", [1, 2], "the column holds Int64, where String belongs"),
    ],
)
@pytest.mark.parametrize("command", ["map", "select", "measures"])
def test_a_column_of_another_type_is_named(
    command: str, column: str, values: list[Any], complaint: str, jostle: Any, tmp_path: Path
) -> None:
    path = tmp_path / "s.parquet"
    table = draw_scores(2).with_columns(pl.Series(column, values))
    table.write_parquet(path)
    options = {
        "map": ("-o", tmp_path / "m.html"),
        "select": ("-n", 1, "-o", tmp_path / "s.txt"),
        "measures": (),
    }
    code, shown = jostle(command, path, *options[command])
    assert code == 2, shown
    assert f"s.parquet, field {column!r}: " in shown
    assert complaint in shown
    assert shown.count("\n") == 1


def _scored(**columns: Any) -> pl.DataFrame:
    """Three tasks as `jostle score` writes them, but for what is given."""
    table = {
        "task_id": ["a", "b", "c"],
        "prompt_uncertainty": [0.1, 0.2, 0.3],
        "prediction_probability": [0.5, 0.6, 0.7],
        "weights_version": ["v", "v", "v"],
    } | columns
    return pl.DataFrame({name: values for name, values in table.items() if values is not None})


@pytest.mark.parametrize("words", [("select", "-n", 1, "-o", "s.txt"), ("map", "-o", "m.html")])
@pytest.mark.parametrize(
    ("columns", "complaint"),
    [
        ({"task_id": None}, "s.parquet, field 'task_id'"),
        ({"task_id": ["a", "b", "a"]}, "s.parquet, record a, field 'task_id': is there twice"),
        (
            {"task_id": ["a", "b", "x\ny"]},
            "s.parquet, field 'task_id': an id must not hold a line break",
        ),
        (
            {"prompt_uncertainty": [0.1, float("nan"), 0.2]},
            "s.parquet, record b, field 'prompt_uncertainty': the score is not a number",
        ),
        (
            {"prompt_uncertainty": [0, 10**18, 1]},
            "s.parquet, record b, field 'prompt_uncertainty': 1e+18 is not in [0, 1]",
        ),
        (
            {"prediction_probability": [0.5, -0.5, 1.0]},
            "s.parquet, record b, field 'prediction_probability': -0.5 is not in [0, 1]",
        ),
        ({"prompt_uncertainty": None}, "s.parquet, field 'prompt_uncertainty'"),
    ],
)
def test_what_is_wrong_with_scores_is_told_with_their_file(
    columns: dict[str, Any], complaint: str, words: tuple[object, ...], jostle: Any,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    _scored(**columns).write_parquet("s.parquet")
    command, *more = words
    code, shown = jostle(command, "s.parquet", *more)
    assert code == 2
    assert complaint in " ".join(shown.split())


def test_scores_without_a_version_and_folders_in_their_place(
    jostle: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    _scored(weights_version=None).write_parquet("s.parquet")
    code, shown = jostle("select", "s.parquet", "-n", 1, "-o", "s.txt")
    assert (code, "s.parquet, field 'weights_version'" in shown) == (2, True)
    (tmp_path / "folder").mkdir()
    code, shown = jostle("select", "folder", "-n", 1, "-o", "s.txt")
    assert (code, "folder: is a folder" in shown) == (2, True)
