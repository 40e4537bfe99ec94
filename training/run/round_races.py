"""The races in which the rounds of a run are scored."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from engine.design.entries import RaceConfig
from engine.design.race_plan import fit_instances, plan_runners
from engine.design.race_rules import Race
from engine.errors import InputError
from engine.process.settings import chosen_dtype
from engine.prompts import PromptBuilder
from engine.tasks import Pool, Task
from training.config.run_config import RunConfig
from training.run.run_pools import initial_ids


class RoundRaces:
    """What the pairs of a pool cost, counted once, and a race for every round.

    Args:
        tasks: The run's pool, without validation tasks.
        config: With `select.race`.
        on_task: Called with the number of tasks whose prompts have been measured.

    Raises:
        InputError: If the budget does not pay for the start of the first race, an instance cannot
            be scored, see `engine.design.race_plan.fit_instances`, or no task can be measured.
    """

    def __init__(
        self,
        tasks: Pool,
        config: RunConfig,
        builder: PromptBuilder,
        on_task: Callable[[int], None] | None = None,
    ) -> None:
        assert config.select.race is not None
        self.config = RaceConfig(
            n_select=config.select.n_tasks,
            budget=config.select.race.budget,
            prefixes_kept=config.select.race.prefixes_kept,
        )
        # Those of an engine that runs already are known when it is asked.
        flags = config.engine.flags
        own = not config.engine.urls
        dtype = chosen_dtype(config.model.name, flags) if own else "float32"
        counted = config.score.with_second_readings(dtype)
        most, source = self.config.max_perturbations, tasks.source
        fit = (fit_instances(each, config.score, builder, most, source=source) for each in tasks)
        found = plan_runners(fit, counted, builder, most, on_task=on_task)
        self._runners = {task_id: runner for task_id, runner in found.items() if runner}
        initial = initial_ids(tasks, config)
        self.race(task for task in tasks if task.id not in initial)

    def race(self, tasks: Iterable[Task]) -> Race:
        """A race of some of the tasks; it names those that cannot be measured.

        Raises:
            InputError: If none of them can be measured, or the budget does not pay for its start.
        """
        ids = [task.id for task in tasks]
        runners = [self._runners[task_id] for task_id in ids if task_id in self._runners]
        others = [task_id for task_id in ids if task_id not in self._runners]
        if not runners:
            raise InputError("no task that could be measured is left", field="select.race")
        try:
            return Race(runners, self.config, unmeasurable=others)
        except InputError as error:
            raise InputError(error.problem, field="select.race.budget") from error

    def expected_pairs(self, n_tasks: int) -> float:
        """About how many pairs the budget pays for, originals included, with so many tasks left.

        After the start of every task each further perturbed prompt is taken to meet as many
        instances as the start has.
        """
        runners = self._runners.values()
        share = min(1.0, n_tasks / len(runners))  # some of the tasks may be unmeasurable
        n, k = self.config.start_instances, self.config.start_perturbations
        start = share * sum(runner.cost.tokens(n, k) for runner in runners)
        further = share * sum(runner.cost.prefix / n + runner.cost.tail for runner in runners)
        most = share * sum(runner.max_instances for runner in runners)
        pairs = n_tasks * (n * (k + 1) + (self.config.budget - start) / further)
        return min(pairs, most * (self.config.max_perturbations + 1))
