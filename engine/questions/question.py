"""A question: what is asked of the engine about a task on top of its reference outputs' likelihood.

A question says what it plans for a task, what it keeps of the answers (rows of a table of its own),
and which measures are computed from these. All else knows questions by this class alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from engine.errors import InputError
from engine.measures.measure import Input, Measure
from engine.prompts import PromptBuilder
from engine.protocol.api import QuestionAnswer
from engine.protocol.score_config import ScoreConfig
from engine.questions.backend import PlannedSample
from engine.questions.pair_plan import Pair, TaskPlan
from engine.tasks import Record, Task
from engine.variance.analysis import Moves
from engine.variance.pooling import standard_errors


class QuestionRow(Record):
    """A row of a question's table: str, int, float, bool, or one of these or None.

    Attributes:
        instance_id: The instance.
        perturbation: j; 0 is the original prompt.
    """

    instance_id: str
    perturbation: int


class Counts(NamedTuple):
    """How much is asked about a task: pairs scored, and outputs sampled."""

    pairs: int = 0
    samples: int = 0


@dataclass(frozen=True, slots=True)
class Asked:
    """A call to the engine, and what else its answer needs to become a row."""

    call: Pair | PlannedSample
    about: Any


class Question(ABC):
    """One of one's own is an instance of a subclass, an entry point of `jostle.questions`; its
    input is one of `jostle.inputs`, its measures are some of `jostle.measures`.

    Attributes:
        name: What `measure` in a config asks for: the name of the first of the measures.
        table: Name of its table, `TABLE.parquet`.
        row: A row of it; its fields are the columns.
        crossed: Whether it needs every perturbed prompt with every instance. Else it asks about
            original prompts alone.
        draws: Whether it samples outputs, so that `sampling` in a config is its business.
        input: What measures call its table.
        measures: What is computed from the table. Further measures of the same input, of any
            package, are computed where scores become tables.
    """

    table: ClassVar[str]
    row: ClassVar[type[QuestionRow]]
    input: ClassVar[Input]
    crossed: ClassVar[bool] = True
    draws: ClassVar[bool] = False
    measures: ClassVar[tuple[Measure, ...]]

    @property
    def name(self) -> str:
        """The name of the first of its measures."""
        return self.measures[0].name

    @property
    def error_column(self) -> str:
        """The column with the standard error of that measure."""
        return f"{self.name}_error"

    def fault(self, task: Task, config: ScoreConfig) -> InputError | None:
        """Why it cannot be asked about a task; None if it can."""
        return None

    @abstractmethod
    def n_asked(self, task: Task, config: ScoreConfig) -> Counts:
        """How much it asks about a task."""

    @abstractmethod
    def plan(
        self, plan: TaskPlan, pairs: Sequence[Pair], config: ScoreConfig, builder: PromptBuilder
    ) -> list[Asked]:
        """All calls about a task, those of a prompt side by side.

        Args:
            pairs: Its pairs, whose perturbed prompts are used; none where these are not known yet.
            builder: The prompt builder that made the plan.

        Raises:
            InputError: If a prompt leaves no room in the model's context for what is asked.
        """

    @abstractmethod
    def keep(
        self, asked: Sequence[Asked], answers: Sequence[Any], task: Task, builder: PromptBuilder
    ) -> list[QuestionRow]:
        """The rows of a task.

        Args:
            asked: What was planned, all of it.
            answers: `Scored` of each pair and `Sampled` of each sample, in the same order.
            builder: The prompt builder that made the plan.
        """

    def arrange(self, rows: Iterable[Mapping[str, Any]]) -> Any:
        """The rows of a task as its measures take them."""
        assert self.input.arrange is not None, "pairs are no question's rows"
        return self.input.arrange(rows)

    @abstractmethod
    def grid(self, rows: Iterable[Mapping[str, Any]]) -> Moves:
        """The table whose mean is the first measure; shape (instances, perturbations).

        Raises:
            ValueError: If an instance lacks a row that another one has.
        """

    def values(self, rows: Sequence[Mapping[str, Any]], task: Task) -> dict[str, float | None]:
        """Its measures of a task by name, the first one first."""
        arranged = self.arrange(rows)
        return {each.name: each.compute(arranged) for each in self.measures}

    def answer(self, rows: Sequence[QuestionRow], task: Task) -> QuestionAnswer:
        """What a task's score holds of it."""
        kept = tuple(row.model_dump() for row in rows)
        (error,) = standard_errors([self.grid(kept)])
        return QuestionAnswer(values=self.values(kept, task), standard_error=error, rows=kept)
