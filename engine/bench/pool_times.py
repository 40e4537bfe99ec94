"""How long a whole pool takes, at the rates that were measured on some of its tasks."""

from __future__ import annotations

from engine.bench.repeats import Repeated
from engine.pools.estimate import time_in_words
from engine.tasks import Record

RACE_SHARE = 0.5
"""Of a scoring's computed tokens: what a race is reckoned with, if nobody gives a budget."""


class PoolTimes(Record):
    """What a pool takes, the engine's start and rounds' other steps not counted.

    Attributes:
        pool: Where it is from.
        tasks: Its tasks.
        pairs: Pairs of a scoring, original prompts included.
        scoring: Seconds of a scoring by the design that was measured.
        margin: Share of it by which a repeat of the measurement may move it, see
            `engine.bench.repeats.Repeated`; None without repeats.
        race_tokens: `RACE_SHARE` of the tokens that the scoring has computed and generated.
        race: Seconds of a race with that budget.
        run: Seconds of scoring and training in a run, see `training.run.planning.RunPlan`; None
            where none can be planned.
        run_words: What run that is, or why there is none.
    """

    pool: str
    tasks: int
    pairs: int
    scoring: float
    margin: float | None
    race_tokens: int
    race: float
    run: float | None = None
    run_words: str = ""

    @classmethod
    def of(
        cls, pool: str, tasks: int, pairs: int, length: float, rate: Repeated, tokens: float
    ) -> PoolTimes:
        """The times of a pool, but for a run's.

        Args:
            length: Of all its tasks, see `engine.bench.bench_calls.text_length`.
            rate: How much of it a second goes through, measured on tasks of the pool. It varies
                less than tasks a second do: a long task takes longer.
            tokens: Tokens computed and generated in a second.
        """
        seconds = length / rate.mean
        return cls(
            pool=pool,
            tasks=tasks,
            pairs=pairs,
            scoring=seconds,
            margin=None if rate.margin is None else rate.margin / rate.mean,
            race_tokens=round(RACE_SHARE * seconds * tokens),
            race=RACE_SHARE * seconds,
        )

    def in_words(self) -> list[str]:
        """A line of each."""
        about = "" if self.margin is None else f", give or take {self.margin:.0%}"
        run = "" if self.run is None else f"about {time_in_words(self.run)} for "
        return [
            f"{self.pool}: {self.tasks:,} tasks, {self.pairs:,} pairs; starts not counted:",
            f"  scoring  about {time_in_words(self.scoring)}{about}",
            f"  race     about {time_in_words(self.race)} with --budget {self.race_tokens}, half "
            "of that scoring's",
            f"  run      {run}{self.run_words}",
        ]
