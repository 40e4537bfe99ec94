"""What is kept is of the same settings, and what is written has a name of its own."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
from pydantic import BaseModel

from benchmarks import bench_trust, counted, harness, sampling, scaling
from benchmarks.common.turns import in_turns, keep_for


class Turn(BaseModel):
    seconds: float


def test_kept_turns_are_not_taken_again_nor_for_other_settings(tmp_path: Path) -> None:
    taken: list[str] = []

    def take() -> Turn:
        taken.append("once")
        return Turn(seconds=len(taken))

    for _ in range(2):
        keep_for(tmp_path / "kept", {"eager": True, "questions": 8})
        turns = in_turns(Turn, {"a way": take}, 2, tmp_path / "kept")
    assert [turn.seconds for turn in turns["a way"]] == [1, 2]
    assert len(taken) == 2
    with pytest.raises(SystemExit, match="holds answers of other settings"):
        keep_for(tmp_path / "kept", {"eager": False, "questions": 8})
    (tmp_path / "kept" / "settings.json").unlink()
    with pytest.raises(SystemExit, match="other settings, which are not written down"):
        keep_for(tmp_path / "kept", {"eager": True, "questions": 8})


@pytest.mark.parametrize("script", [bench_trust, counted, harness, sampling, scaling])
def test_no_script_mixes_answers_of_other_settings(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_for(tmp_path, {"model": "another"})
    option = "--folder" if script is harness else "--keep"
    monkeypatch.setattr("sys.argv", ["script", option, str(tmp_path)])
    with pytest.raises(SystemExit, match="holds answers of other settings"):
        script.main()


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ("--eager", "sampling"),
        ("--eager --ways jostle", "sampling_jostle"),
        ("--eager --ways offline ngram", "sampling_ngram"),
        ("", "sampling_compiled"),
    ],
)
def test_samples_of_other_ways_do_not_replace_those_of_the_usual_ones(
    options: str, name: str
) -> None:
    assert sampling.result_name(sampling.parser().parse_args(options.split())) == name


def test_no_value_of_an_axis_is_scored_on_texts_of_another() -> None:
    every = [
        seed
        for axis, values in scaling.AXES.items()
        for value in values
        for seed in scaling.seeds(axis, value, 3)
    ]
    assert len(set(every)) == len(every) == 20 * 4
