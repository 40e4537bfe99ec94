"""How a bundled task is written down and how it is made: a book per category, a page per task."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from itertools import islice
from random import Random
from typing import TypeAlias

from engine.tasks import Example, Instance, Task

#: Instances that a generator is asked for; a table gives all its rows.
INSTANCES = 48
#: Draws after which a generator that still repeats itself is taken to be too small.
MAX_DRAWS = 20_000

#: An example as it is written down: input, output, why the output is right (or wrong).
Shown: TypeAlias = tuple[str, str, str]
#: One instance: input, gold outputs.
Row: TypeAlias = tuple[str, tuple[str, ...]]
#: A generator: makes one (input, gold output) from a seeded source of chance.
Draw: TypeAlias = Callable[[Random], tuple[str, str]]


def lines(name: str) -> tuple[str, ...]:
    """The lines of a text file in the data folder."""
    folder = files("engine.pools.bundled") / "data"
    return tuple((folder / name).read_text(encoding="utf-8").splitlines())


def table(name: str) -> list[Row]:
    """The rows of a hand-made table: input, gold output and further gold outputs, tab-separated."""
    rows = [line.split("\t") for line in lines(f"{name}.tsv")]
    return [(row[0], tuple(row[1:])) for row in rows]


@dataclass(frozen=True)
class _Page:
    """All that is written down about one task; without a generator, its table bears its id."""

    task_id: str
    definition: str
    good: Sequence[Shown]
    bad: Sequence[Shown]
    labels: tuple[str, ...]
    draw: Draw | None


class Book:
    """The tasks of one category, in the order in which they were written down.

    Args:
        category: The category of every task in the book.
    """

    def __init__(self, category: str) -> None:
        self.category = category
        self._pages: list[_Page] = []

    def task(
        self,
        definition: str,
        *,
        good: Sequence[Shown],
        bad: Sequence[Shown],
        labels: tuple[str, ...] = (),
    ) -> Callable[[Draw], Draw]:
        """Decorate a generator: its name, less the leading underscore, becomes the task's id.

        Args:
            definition: The instruction.
            good: Positive examples.
            bad: Negative examples.
            labels: All admissible outputs of a classification. The instances are then spread
                evenly over them, however unevenly the generator draws.
        """

        def register(draw: Draw) -> Draw:
            self._pages.append(
                _Page(draw.__name__.removeprefix("_"), definition, good, bad, labels, draw)
            )
            return draw

        return register

    def table_task(
        self,
        task_id: str,
        definition: str,
        *,
        good: Sequence[Shown],
        bad: Sequence[Shown],
        labels: tuple[str, ...] = (),
    ) -> None:
        """Write down a task whose instances are the rows of `data/<task_id>.tsv`."""
        self._pages.append(_Page(task_id, definition, good, bad, labels, None))

    def build(self) -> list[Task]:
        """The tasks with their instances; the same in every process."""
        return [_build(page, self.category) for page in self._pages]


def _build(page: _Page, category: str) -> Task:
    rng = Random(f"bundled/{page.task_id}")
    if page.draw is None:
        rows = table(page.task_id)
        rng.shuffle(rows)  # tables are written label by label
    else:
        rows = list(islice(_distinct(page, page.draw, rng), INSTANCES))
        assert len(rows) == INSTANCES, f"{page.task_id}: too few distinct draws"
    return Task(
        id=page.task_id,
        definition=page.definition,
        positive_examples=tuple(_example(shown) for shown in page.good),
        negative_examples=tuple(_example(shown) for shown in page.bad),
        instances=tuple(
            Instance(id=f"{page.task_id}-{number:03}", input=text, outputs=outputs)
            for number, (text, outputs) in enumerate(rows)
        ),
        category=category,
        labels=page.labels,
    )


def _distinct(page: _Page, draw: Draw, rng: Random) -> Iterator[Row]:
    """Draws that repeat neither an example nor each other, evenly spread over the labels."""
    seen = {text for text, _, _ in (*page.good, *page.bad)}
    share = math.ceil(INSTANCES / len(page.labels)) if page.labels else INSTANCES
    taken: Counter[str] = Counter()
    for _ in range(MAX_DRAWS):
        text, output = draw(rng)
        if text in seen or (page.labels and taken[output] >= share):
            continue
        seen.add(text)
        taken[output] += 1
        yield text, (output,)


def _example(shown: Shown) -> Example:
    text, output, explanation = shown
    return Example(input=text, output=output, explanation=explanation)
