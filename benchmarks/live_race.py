"""One race over a running engine against the same race over the stored pairs.

    python -m benchmarks.live_race [--budget 80000] [--select 12] [--pool FOLDER] [--url URL]

Both take instances and perturbations in the same order, so they should ask for the same pairs and
come to the same standings up to float error. Writes benchmarks/results/live_race.txt.
"""

from __future__ import annotations

import argparse
import contextlib
import time
from pathlib import Path

import numpy as np

from benchmarks.common.pairs import MAX_MODEL_LEN, prompt_builder
from benchmarks.common.result_file import ResultFile
from benchmarks.common.stored_pairs import StoredTask, load
from benchmarks.reference_pairs import DESIGN, STORED
from engine.client import EngineClient
from engine.design.entries import RaceConfig, Standing
from engine.design.live_race import LiveTables, race_order
from engine.design.race_rules import Race
from engine.pools.niv2 import load_niv2_task, task_files
from engine.process.engine_process import EngineProcess
from engine.prompts import PromptBuilder
from engine.protocol.api import Usage
from engine.protocol.engine_calls import Engine
from engine.tasks import Task
from engine.variance.overlap import top
from engine.weights.models import BUNDLED_MODEL, resolve_model


def simulate(stored: list[StoredTask], config: RaceConfig) -> Race:
    """The race over the stored pairs, in the order of a live one."""
    race = Race([task.runner() for task in stored], config)
    by_id = {task.task_id: task for task in stored}
    while batch := race.next_batch():
        for step in batch:
            task = by_id[step.task_id]
            order = race_order(task.task_id, task.moves.shape[0], DESIGN.seed)
            n, k = step.scored.shape
            measured = task.measured(np.array(order[:n]), np.arange(k), step.scored)
            race.tell(task.task_id, measured)
    return race


def race_live(
    client: Engine,
    tasks: list[Task],
    stored: list[StoredTask],
    builder: PromptBuilder,
    config: RaceConfig,
) -> tuple[Race, Usage]:
    """The race over an engine, with the stored costs; it, and what the engine counted."""
    race = Race([task.runner() for task in stored], config)
    tables = LiveTables(client, tasks, DESIGN, builder)
    while batch := race.next_batch():
        for task_id, measured in tables.extend(batch).items():
            race.tell(task_id, measured)
        print(f"{race.tokens:,.0f} of {config.budget:,.0f} tokens", flush=True)
    return race, tables.usage


def show(live: tuple[Standing, ...], simulated: tuple[Standing, ...], result: ResultFile) -> None:
    """Where the live race ended, and how far the simulation is from it."""
    both = sorted(zip(live, simulated, strict=True), key=lambda each: -each[0].ranking_estimate)
    result.table(
        "the live race's end, by ranking estimate; U plain, live and simulated",
        ["task", "estimate", "interval", "n x k", "pairs", "in", "open", "U", "simulated"],
        [
            [
                mine.task_id.removeprefix("task")[:44],
                f"{mine.ranking_estimate:.4f}",
                f"{mine.low:.3f} to {mine.high:.3f}",
                f"{mine.n_instances}x{mine.n_perturbations}",
                str(mine.pairs),
                "x" if mine.selected else "",
                "?" if mine.is_open else "",
                f"{mine.prompt_uncertainty:.4f}",
                f"{theirs.prompt_uncertainty:.4f}",
            ]
            for mine, theirs in both
        ],
    )


def main() -> None:
    """Runs both races and prints how they agree."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pool", type=Path, default=Path("../shared/data/niv2"))
    parser.add_argument("--budget", type=float, default=80_000)
    parser.add_argument("--select", type=int, default=12)
    parser.add_argument("--url", help="a running server, without /v1; none: one is started")
    chosen = parser.parse_args()
    stored = load(STORED)
    config = RaceConfig(n_select=chosen.select, budget=chosen.budget)
    expected = simulate(stored, config)
    model = str(resolve_model(BUNDLED_MODEL))
    builder = prompt_builder(model, DESIGN)
    files = {file.stem: file for file in task_files(chosen.pool)}
    tasks = [stored_instances(load_niv2_task(files[each.task_id])) for each in stored]
    with contextlib.ExitStack() as stack:
        url = chosen.url
        if url is None:
            log = Path("runs/live-race/engine.log")
            log.parent.mkdir(parents=True, exist_ok=True)
            server = EngineProcess.start(
                model,
                weights_root=None,
                log_file=log,
                extra_args=[f"--max-model-len={MAX_MODEL_LEN}"],
            )
            stack.enter_context(server).wait_ready()
            url = server.url
        client = stack.enter_context(EngineClient(url, timeout_s=600.0))
        started = time.perf_counter()
        race, usage = race_live(client, tasks, stored, builder, config)
        seconds = time.perf_counter() - started
    report(stored, race, expected, usage, seconds)


def stored_instances(task: Task) -> Task:
    """The task with the instances whose pairs are stored, in their order."""
    some = task.sample_instances(DESIGN.n_instances, DESIGN.seed)
    return task.model_copy(update={"instances": some})


def report(
    stored: list[StoredTask], race: Race, expected: Race, usage: Usage, seconds: float
) -> None:
    """Prints and writes how the two races agree."""
    n_select = race.config.n_select
    result = ResultFile("live_race")
    live, simulated = race.standings(), expected.standings()
    show(live, simulated, result)
    pairs = list(zip(live, simulated, strict=True))
    difference = max(abs(a.prompt_uncertainty - b.prompt_uncertainty) for a, b in pairs)
    same = sum((a.n_instances, a.n_perturbations, a.pairs) ==
               (b.n_instances, b.n_perturbations, b.pairs) for a, b in pairs)  # fmt: skip
    chosen = [{i for i, s in enumerate(each) if s.selected} for each in (live, simulated)]
    reference = set(top(np.array([task.moves.mean() for task in stored]), n_select).tolist())
    result.print(
        f"{seconds:.0f} s, {sum(standing.pairs for standing in live)} pairs, {race.tokens:.0f} "
        f"computed tokens by the cost model, {usage.tokens_computed + usage.tokens_generated} by "
        f"the engine's count; {sum(s.is_open for s in live)} memberships open\n"
        f"live and simulated race: {same} of {len(live)} designs equal, "
        f"{len(chosen[0] & chosen[1])} of {n_select} selected alike, prompt uncertainty equal to "
        f"{difference:.1e}\n"
        f"overlap with the reference: live {len(chosen[0] & reference) / n_select:.3f}, "
        f"simulated {len(chosen[1] & reference) / n_select:.3f}"
    )
    result.save({})


if __name__ == "__main__":
    main()
