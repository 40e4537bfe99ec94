"""The task schema and the pool."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from pydantic import ValidationError

from engine.errors import InputError
from engine.pools.names import read_names, write_names
from engine.tasks import Example, Instance, Pool, Task, check_task
from tests.engine.examples import make_task


def test_unknown_fields_are_errors() -> None:
    with pytest.raises(ValidationError, match="inputs"):
        Instance.model_validate({"id": "a", "input": "b", "inputs": "c"})


@pytest.mark.parametrize("fields", [{"id": ""}, {"definition": ""}])
def test_id_and_definition_must_not_be_empty(fields: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        Task.model_validate({"id": "t", "definition": "d"} | fields)


def test_a_sample_as_large_as_the_task_is_the_task() -> None:
    task = make_task(n_instances=5)
    assert task.sample_instances(5, seed=0) == task.instances
    assert task.sample_instances(9, seed=0) == task.instances


def test_a_sample_is_in_order_without_repeats_and_depends_on_the_seed() -> None:
    task = make_task(n_instances=50)
    samples = [task.sample_instances(8, seed) for seed in range(20)]
    for sample in samples:
        indices = [task.instances.index(instance) for instance in sample]
        assert len(sample) == 8
        assert indices == sorted(set(indices))
    assert len(set(samples)) > 1
    assert samples == [task.sample_instances(8, seed) for seed in range(20)]


def test_the_sample_depends_on_the_task_id_and_not_on_the_examples() -> None:
    one, other = make_task("one", n_instances=50), make_task("other", n_instances=50)
    bare = make_task("one", n_instances=50, n_positive=0, n_negative=0)
    assert one.sample_instances(8, 0) == bare.sample_instances(8, 0)
    assert one.sample_instances(8, 0) != other.sample_instances(8, 0)


def test_every_instance_is_drawn_about_equally_often() -> None:
    task = make_task(n_instances=10)
    drawn = Counter(
        instance.id for seed in range(2000) for instance in task.sample_instances(3, seed)
    )
    # 600 each in the mean; the standard deviation is about 20.
    assert min(drawn.values()) > 500
    assert max(drawn.values()) < 700


def test_pool_keeps_order_and_finds_by_id() -> None:
    pool = Pool([make_task("b"), make_task("a"), make_task("c")])
    assert [task.id for task in pool] == ["b", "a", "c"]
    assert pool[1].id == "a"
    assert len(pool) == 3
    assert [task.id for task in pool.subset(["c", "b"])] == ["c", "b"]
    with pytest.raises(KeyError):
        pool.subset(["d"])


def test_two_tasks_with_one_id_are_refused() -> None:
    with pytest.raises(InputError, match=r"^some/folder, record a, field 'id': two tasks share"):
        Pool([make_task("a"), make_task("a")], source="some/folder")


def test_two_instances_with_one_id_are_refused() -> None:
    twice = make_task("a").model_copy(
        update={"instances": (Instance(id="x", input="1"), Instance(id="x", input="2"))}
    )
    with pytest.raises(InputError, match="record a, field 'instances': two instances share an id"):
        Pool([twice])


def test_digest_changes_with_content_and_order_only() -> None:
    one, other = make_task("one"), make_task("other")
    digest = Pool([one, other]).digest()
    assert len(digest) == 64
    assert Pool([one, other], source="elsewhere").digest() == digest
    assert Pool([other, one]).digest() != digest
    assert Pool([one, make_task("other", definition="Say something else")]).digest() != digest


@pytest.mark.parametrize(
    ("said", "labels", "outputs", "expected"),
    [
        (None, (), "yes no " * 5, True),
        (None, (), "yes no " * 4, False),  # too few to tell
        (None, (), "yes " * 12, False),
        (None, (), " ".join(str(n % 11) for n in range(99)), False),
        (None, ("yes", "no"), "yes", True),
        (True, (), "a b c", True),
        (False, (), "yes no " * 5, False),
        (None, (), "", False),
    ],
)
def test_a_classification_is_said_or_to_be_seen(
    said: bool | None, labels: tuple[str, ...], outputs: str, expected: bool
) -> None:
    instances = tuple(
        Instance(id=str(index), input="x", outputs=(output,))
        for index, output in enumerate(outputs.split())
    )
    task = Task(id="t", definition="d", labels=labels, instances=instances, classification=said)
    assert task.is_classification is expected


@pytest.mark.parametrize(
    "name",
    ["a\nb", " lead", "trail ", "\u2028", "a\u2028b", "a\x85b", "a\tb", "\ufeffa", "a\0", " "],
)
def test_ids_stand_one_a_line_in_lists(name: str) -> None:
    for kind, rest in ((Task, {"definition": "d"}), (Instance, {"input": "x"})):
        with pytest.raises(ValidationError, match="id"):
            kind.model_validate({"id": name} | rest)


@pytest.mark.parametrize("name", ["x y", "..", "c/d", "<b>&\"'", "=cmd()", "ǘ名", "a\u200db", "-"])
def test_other_ids_are_kept_as_they_are(name: str, tmp_path: Path) -> None:
    task = Task(id=name, definition="d")
    write_names(tmp_path / "ids.txt", [task.id, "next"])
    assert read_names(tmp_path / "ids.txt") == [name, "next"]
    with pytest.raises(InputError, match=r"ids.txt, field 'id': an id must not"):
        write_names(tmp_path / "ids.txt", ["good", f"{name}\nx"])
    assert read_names(tmp_path / "ids.txt") == [name, "next"]


TWICE = (Instance(id="1", input="x"), Instance(id="1", input="y"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"instances": TWICE}, "record t, instances[1], field 'id': '1' is also the id of inst"),
        ({"instances": ()}, "record t, field 'instances': a task needs at least one instance"),
        ({"definition": " \n"}, "record t, field 'definition': empty"),
        ({"labels": ("blue", "blue")}, "record t, field 'labels': holds a label twice"),
        (
            {"labels": ("no",), "instances": (Instance(id="1", input="", outputs=("yes",)),)},
            "record t, instances[0], field 'outputs': 'yes' is none of the task's labels",
        ),
        (
            {"positive_examples": (Example(input="x", output=" "),)},
            "record t, positive_examples[0], field 'output': empty",
        ),
        ({"definition": "a \ud83d"}, "record t, field 'definition': not Unicode: holds half a"),
        ({"category": "\ud83d"}, "record t, field 'category': not Unicode"),
        (
            {"labels": ("\ud83d",), "instances": (Instance(id="1", input="x"),)},
            "record t, field 'labels': not Unicode",
        ),
        (
            {"instances": (Instance(id="1", input="\ud83d"),)},
            "record t, instances[0], field 'input': not Unicode",
        ),
        (
            {"instances": (Instance(id="1", input="", outputs=("x", "\ud83d")),)},
            "record t, instances[0], field 'outputs': not Unicode",
        ),
        (
            {"negative_examples": (Example(input="x", output="y", explanation="\ud83d"),)},
            "record t, negative_examples[0], field 'explanation': not Unicode",
        ),
    ],
)
def test_what_no_task_may_have(change: dict[str, object], message: str) -> None:
    check_task(make_task("t"))
    with pytest.raises(InputError) as caught:
        check_task(make_task("t").model_copy(update=change))
    assert str(caught.value).startswith(message)
