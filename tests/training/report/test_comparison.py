"""Runs over each other."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from engine.errors import InputError
from engine.files import read_json
from engine.tasks import Pool
from tests.training.report.made_run import make_records, make_tasks
from tests.training.report.page_data import page_data
from training.report.comparison import Comparison
from training.run.run_folder import RunFolder
from training.run.state import RunState, save_state


def test_runs_are_paired_by_seed_and_task(tmp_path: Path) -> None:
    tasks = make_tasks(12)
    for name, gain in (("sure", 12.0), ("random", 10.0)):
        for seed in (0, 1):
            make_records(tmp_path / f"{name}-seed-{seed}", tasks, gain=gain + seed, seed=seed)
    (tmp_path / "sweep.json").write_text("{}")
    sweep = Comparison([tmp_path])
    assert {name: sorted(seeds) for name, seeds in sweep.runs.items()} == {
        "random": [0, 1],
        "sure": [0, 1],
    }
    (row,) = sweep.differences()
    assert row["pair"] == "sure less random, 8 tasks"
    assert (row["value"], row["low"], row["high"]) == pytest.approx((4.0, 4.0, 4.0))
    first = next(row for row in sweep.curves() if row["trained"] == 4)
    assert (first["run"], first["value"], first["low"]) == ("random", 33.0, 32.5)
    sweep.write(tmp_path / "page.html")
    data = page_data(tmp_path / "page.html")
    assert data["differences"] == [row]
    assert len(data["facts"]) == 4
    sweep.write(tmp_path / "curves.svg")
    assert "tasks trained on" in (tmp_path / "curves.svg").read_text()
    sweep.runs["random"][1].round(1).metrics.unlink()  # one seed that is not as far yet
    reached = [(row["run"], row["trained"]) for row in sweep.curves() if row["metric"] == "ROUGE-L"]
    assert reached == [("random", 0), ("random", 4), ("sure", 0), ("sure", 4), ("sure", 8)]


def test_runs_on_other_held_out_tasks_are_not_compared(tmp_path: Path) -> None:
    tasks = make_tasks(12)
    one = make_records(tmp_path / "one", tasks)
    two = make_records(tmp_path / "two", tasks)
    state = read_json(two.state, RunState)
    digest = Pool(make_tasks(2)).digest()
    save_state(two, state.model_copy(update={"held_out_digest": digest}))
    with pytest.raises(InputError, match=r"two, field .*evaluated on other held-out tasks"):
        Comparison([one.path, two.path])
    save_state(two, state)
    config = two.config.read_text()
    assert "max_new_tokens = " in config
    two.config.write_text(re.sub(r"(max_new_tokens = )\d+", r"\g<1>7", config))
    with pytest.raises(InputError, match=r"two, field 'evaluate.max_new_tokens': is 7, and \d+ in"):
        Comparison([one.path, two.path])
    two.config.write_text(re.sub(r"(n_positive_examples = )\d+", r"\g<1>0", config))
    with pytest.raises(InputError, match=r"two, field 'score.prompt.n_positive_examples': is 0, a"):
        Comparison([one.path, two.path])
    with pytest.raises(InputError, match="holds neither a run"):
        Comparison([tmp_path])
    with pytest.raises(InputError, match="is another run of one with seed 0"):
        Comparison([one.path, one.path])


def test_rounds_are_paired_where_one_of_them_took_a_task_fewer(tmp_path: Path) -> None:
    tasks = make_tasks(12)
    for name, gain in (("sure", 12.0), ("random", 10.0)):
        for seed in (0, 1):
            make_records(tmp_path / f"{name}-seed-{seed}", tasks, gain=gain, seed=seed)
    metrics = RunFolder(tmp_path / "sure-seed-1").round(1).metrics
    record = json.loads(metrics.read_text())
    metrics.write_text(json.dumps(record | {"selected": record["selected"][:-1]}))
    (tmp_path / "sweep.json").write_text("{}")
    found = [row["pair"] for row in Comparison([tmp_path]).differences(every_round=True)]
    assert found == ["sure less random, 4 tasks", "sure less random, 7.75 tasks"]
    other = make_records(tmp_path / "by two", tasks, n_selected=2)
    base = tmp_path / "random-seed-0"
    found = [row["pair"] for row in Comparison([base, other.path]).differences(every_round=True)]
    assert found == ["by two less random, 4 tasks"]
