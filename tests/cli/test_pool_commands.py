"""jostle pool: validate, stats, convert, split and show, as a person types them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.errors import InputError
from engine.pools import open_pool
from engine.pools.splits import split_pool, write_split
from engine.tasks import Task
from tests.training.http_engine import HttpEngine, http_engine

COLORS = "instruction,input,output,category\nName it.,sky,blue,color\nName it.,sea,,color\n"


@pytest.fixture
def colors(tmp_path: Path) -> Path:
    path = tmp_path / "colors.csv"
    path.write_text(COLORS)
    return path


@pytest.fixture
def niv2(tmp_path: Path) -> Path:
    """A folder of Super-NaturalInstructions with the split that its authors made."""
    folder = tmp_path / "niv2" / "tasks"
    folder.mkdir(parents=True)
    for number in range(6):
        task = {
            "Categories": [f"category {number // 2}"],
            "Definition": [f"Say {number}."],
            "Positive Examples": [{"input": "dog", "output": "chien", "explanation": "French"}],
            "Negative Examples": [],
            "Instances": [{"id": f"{number}-a", "input": "red", "output": ["rouge"]}],
        }
        (folder / f"task{number}.json").write_text(json.dumps(task))
    splits = tmp_path / "niv2" / "splits" / "default"
    splits.mkdir(parents=True)
    (splits / "train_tasks.txt").write_text("task0\ntask2\ntask4\n")
    (splits / "test_tasks.txt").write_text("task1\n")
    return folder


def test_every_fault_of_every_file_is_told(jostle: Any, colors: Path, tmp_path: Path) -> None:
    code, shown = jostle("pool", "validate", colors)
    assert code == 0
    note, summary = shown.splitlines()
    assert note.startswith("note: instances without a gold output: 1 (first: colors-3/")
    assert summary == f"{colors}: 0 faults; 2 tasks with 2 instances in order (alpaca)"

    bad = tmp_path / "bad.jsonl"
    good = {"prompt": "Hi", "completion": "Yo"}
    rows = [good, {"prompt": "Hi"}, {"prompt": 3, "completion": "Yo"}, good]
    bad.write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, shown = jostle("pool", "validate", colors, bad)
    assert code == 2
    assert shown.splitlines()[2:] == [
        f"{bad}, record line 2, field 'completion': missing",
        f"{bad}, record line 3, field 'prompt': expected a text, found a number",
        f"{bad}: 2 faults; 2 tasks with 2 instances in order (prompt_completion)",
    ]


def test_what_is_in_a_pool_is_counted(jostle: Any, pool: Path) -> None:
    code, shown = jostle("pool", "stats", pool, "--json", "--instances", 5, "--perturbations", 2)
    assert code == 0, shown
    found = json.loads(shown)
    n_instances = 8 * 12 + 12 * 3
    assert (found["tasks"], found["instances"]) == (20, n_instances)
    assert (found["classifications"], found["without_category"]) == (8, 20)
    assert found["measured_instances"] == 8 * 5 + 12 * 3
    assert found["definition"]["count"] == 20
    assert found["unit"] == "words"
    one_word = {"count": n_instances, "total": n_instances, "mean": 1, "median": 1}
    assert found["output"] == {**one_word, "p95": 1, "longest": 1}
    assert found["estimate"]["pairs"] == (8 * 5 + 12 * 3) * 3
    assert found["estimate"]["seconds"] is None

    code, shown = jostle("pool", "stats", pool)
    assert code == 0
    rows = dict(line.split(maxsplit=1) for line in shown.splitlines() if line[:1].strip())
    assert rows["tasks"] == "20"
    assert rows["instances"] == f"{n_instances} (0 with an empty input)"
    assert rows["classifications"] == "8 tasks"
    assert rows["time"] == "not estimated: give --pairs-per-second or --url"


def test_categories_and_repetitions_are_counted(jostle: Any, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [
        {"task": name, "definition": text, "category": kind, "prompt": said, "completion": "c"}
        for name, text, kind, said in (
            ("one", "Do it.", "x", "p"),
            ("one", "Do it.", "x", " P"),  # the same but for case and blanks
            ("two", "do  it.", "x", "other"),
            ("three", "Do it.", "y", "p"),
            ("three", "Do it.", "y", "p "),
        )
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, shown = jostle("pool", "stats", path, "--json")
    assert code == 0, shown
    found = json.loads(shown)
    assert found["categories"] == {"x": 2, "y": 1}
    assert found["repeated_definitions"] == 2
    assert found["repeated_tasks"] == 1, "three says what one says"
    assert found["repeated_instances"] == 2
    assert "2 definitions, 1 whole tasks, 2 instances" in jostle("pool", "stats", path)[1]


def test_time_is_reckoned_from_a_rate_and_money_from_time(jostle: Any, pool: Path) -> None:
    rate = ("--pairs-per-second", 2, "--price-per-hour", 3)
    code, shown = jostle("pool", "stats", pool, "--json", "--perturbations", 1, *rate)
    assert code == 0, shown
    found = json.loads(shown)["estimate"]
    assert found["pairs"] == (8 * 10 + 12 * 3) * 2
    assert found["seconds"] == found["pairs"] / 2
    assert found["cost"] == pytest.approx(3 * found["seconds"] / 3600)
    code, shown = jostle("pool", "stats", pool, *rate, "--url", "http://127.0.0.1:9")
    assert code == 2
    assert "either --url or --pairs-per-second" in shown


@pytest.fixture
def engine() -> Iterator[HttpEngine]:
    with http_engine() as running:
        yield running


def test_the_rate_of_an_engine_is_measured(jostle: Any, engine: HttpEngine, pool: Path) -> None:
    asked = ("--instances", 2, "--perturbations", 2, "--url", engine.url, "--engine-tasks", 3)
    code, shown = jostle("pool", "stats", pool, "--json", *asked)
    assert code == 0, shown
    rate = json.loads(shown)["estimate"]["rate"]
    assert rate["pairs_per_second"] > 0
    # One task warms it up, and is not among those that count.
    assert len(engine.scored) == 3
    assert len(set(engine.scored)) == 3
    assert rate["origin"].startswith("measured on ")
    assert " of 2 tasks in " in rate["origin"]


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_a_pool_is_converted_and_means_the_same(
    ending: str, jostle: Any, colors: Path, tmp_path: Path
) -> None:
    own = tmp_path / f"own.{ending}"
    code, shown = jostle("pool", "convert", colors, own)
    assert (code, shown) == (0, f"{own}: 2 tasks with 2 instances\n")
    assert list(open_pool(own)) == list(open_pool(colors))
    assert open_pool(own).format == "jostle"
    code, shown = jostle("pool", "convert", colors, tmp_path / "own.csv")
    assert code == 2
    assert "cannot be written; valid endings: .jsonl, .parquet" in shown


def test_instances_of_a_conversion_are_drawn_with_the_seed(
    jostle: Any, pool: Path, tmp_path: Path
) -> None:
    drawn = []
    for seed in (0, 0, 1):
        few = ("--max-instances", 4, "--seed", seed, "--overwrite")
        code, shown = jostle("pool", "convert", pool, tmp_path / "few.jsonl", *few)
        assert code == 0, shown
        assert f"20 tasks with {8 * 4 + 12 * 3} instances" in shown
        drawn.append(list(open_pool(tmp_path / "few.jsonl")))
    assert drawn[0] == drawn[1] != drawn[2]


def sides(folder: Path) -> tuple[list[str], list[str]]:
    """Ids of the tasks to train on and of those that are held out, as both kinds of file say."""
    names = []
    for side in ("train", "test"):
        ids = (folder / f"{side}_tasks.txt").read_text().split()
        pool = folder / f"{side}.jsonl"
        assert not pool.exists() or [task.id for task in open_pool(pool)] == ids
        names.append(ids)
    return names[0], names[1]


def test_no_category_and_no_definition_is_on_both_sides(jostle: Any, tmp_path: Path) -> None:
    path, folder = tmp_path / "rows.jsonl", tmp_path / "split"
    # Tasks 8 and 9 say what tasks 0 and 1 say, in other words' clothes and categories of their own.
    rows = [
        {
            "id": f"task-{n}",
            "definition": f"{'Do' if n < 8 else ' DO'} {n % 8}.",
            "category": f"kind {n // 2}",
            "instances": [{"id": "i", "input": "x", "outputs": ["y"]}],
        }
        for n in range(10)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    seen = set()
    for seed in range(6):
        words = ("pool", "split", path, folder, "--share", 0.4, "--seed", seed, "--overwrite")
        code, shown = jostle(*words)
        assert code == 0, shown
        train, test = sides(folder)
        assert f"{len(train)} tasks to train on, {len(test)} held out" in shown
        assert f"chosen by: whole categories, drawn with seed {seed}" in shown
        assert sorted(train + test) == sorted(str(row["id"]) for row in rows)
        assert len(test) == 4, "0.4 can be had exactly"
        side = {name: name in test for name in train + test}
        pairs = ((0, 1), (2, 3), (4, 5), (6, 7), (8, 9), (0, 8), (1, 9))
        assert all(side[f"task-{a}"] == side[f"task-{b}"] for a, b in pairs)
        seen.add(tuple(test))
    assert len(seen) > 1, "the seed decides"


def test_tasks_are_split_by_themselves(jostle: Any, pool: Path, tmp_path: Path) -> None:
    folder = tmp_path / "split"
    code, shown = jostle("pool", "split", pool, folder)
    assert code == 2
    assert "has no category; name its column, or split by task" in shown
    assert not folder.exists()
    code, shown = jostle("pool", "split", pool, folder, "--by", "task", "--lists-only")
    assert code == 0, shown
    train, test = sides(folder)
    assert (len(train), len(test)) == (15, 5)
    assert not list(folder.glob("*.jsonl"))
    for words, complaint in (
        (("--by", "size"), "cannot split by 'size'; valid: category, task"),
        (("--by", "task", "--share", 1.5), "field 'share': must lie between 0 and 1"),
        (("--by", "task", "--lists-only"), "is there already; --overwrite replaces it"),
    ):
        code, shown = jostle("pool", "split", pool, folder, *words)
        assert (code, complaint in shown) == (2, True), shown


def test_a_pool_that_changes_under_a_split_is_no_half_of_it(pool: Path, tmp_path: Path) -> None:
    opened = open_pool(str(pool))
    split = split_pool(opened, by="task", share=0.25, seed=0, official=True)
    first, *others = pool.read_text().splitlines(keepends=True)
    pool.write_text("".join(others))
    gone = json.loads(first)["id"]
    side = "train" if gone in split.train else "test"
    with pytest.raises(InputError, match=rf"{pool.name}, record {gone}: changed while"):
        write_split(opened, split, tmp_path / "split", lists_only=False, overwrite=False)
    assert not (tmp_path / "split" / f"{side}.jsonl").exists()


def test_the_split_of_the_authors_is_kept(jostle: Any, niv2: Path, tmp_path: Path) -> None:
    code, shown = jostle("pool", "split", niv2, tmp_path / "theirs")
    assert code == 0, shown
    assert sides(tmp_path / "theirs") == (["task0", "task2", "task4"], ["task1"])
    code, shown = jostle("pool", "split", niv2, tmp_path / "ours", "--no-official")
    assert code == 0, shown
    train, test = sides(tmp_path / "ours")
    assert (len(train), len(test)) == (4, 2)
    (niv2.parent / "splits" / "default" / "train_tasks.txt").write_text("task0\ntask1\n")
    code, shown = jostle("pool", "split", niv2, tmp_path / "both")
    assert code == 2
    assert "record task1: the task is in train_tasks.txt and in test_tasks.txt" in shown


def test_a_task_is_shown(jostle: Any, niv2: Path) -> None:
    code, shown = jostle("pool", "show", niv2, "task3")
    assert code == 0
    assert shown.splitlines() == [
        "id          task3",
        "category    category 1",
        "labels      none",
        "definition  Say 3.",
        "",
        "positive example 1 of 1",
        "  input   dog",
        "  output  chien",
        "  because French",
        "",
        "instance 1 of 1: 3-a",
        "  input   red",
        "  output  rouge",
    ]
    code, shown = jostle("pool", "show", niv2, "--json")
    assert code == 0
    assert Task.model_validate_json(shown) == next(iter(open_pool(niv2)))
    code, shown = jostle("pool", "show", niv2, "task9")
    assert code == 2
    assert "record task9: no such task" in shown


def test_the_prompt_of_an_instance_is_shown(jostle: Any, niv2: Path) -> None:
    code, shown = jostle("pool", "show", niv2, "task3", "--prompt")
    assert code == 0
    assert shown.startswith("Definition: Say 3.\n")
    assert "dog" in shown
    assert shown.index("chien") < shown.index("red")
    assert "rouge" not in shown, "the answer is the model's to give"
    code, shown = jostle("pool", "show", niv2, "task3", "--prompt", "--instance", 2)
    assert code == 2
    assert "record task3, field 'instances': no instance 2; the task has 1" in shown
