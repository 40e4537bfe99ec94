"""How the cost of scoring grows: with instances, perturbations, lengths and tasks.

    python -m benchmarks.scaling [--repeats 3] [--pool 4000]

One design, prompts of 365 tokens and outputs of 12, and one number at a time changed, on the path
of `benchmarks.python_path`: our scorer and vLLM's AsyncLLM, scheduler and cache, and a worker that
computes nothing. What grows is fitted as a power; cost is CPU time in Python, and the tokens that a
model would have had to compute. `--pool` then scores so many short tasks over HTTP with a stand-in
for the engine, and tells the tasks a second and the memory of client and server.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.common.pairs import prompt_builder
from benchmarks.common.result_file import RESULTS, ResultFile
from benchmarks.common.turns import keep_for
from benchmarks.python_path import WARM_UP, made_up_llm, measure
from engine.bench.repeats import t_quantile
from engine.bench.synthetic_tasks import synthetic_tasks
from engine.bench.workload import Shape
from engine.files import write_json
from engine.prompts import PromptBuilder
from engine.protocol.score_config import ScoreConfig
from engine.weights.models import resolve_model


@dataclass(frozen=True)
class Setting:
    """What is scored.

    Attributes:
        tasks: How many.
        instances: Of each.
        perturbations: Of each.
        prompt: Tokens of a prompt, about.
        output: Tokens of an output.
    """

    tasks: int = 16
    instances: int = 5
    perturbations: int = 5
    prompt: int = 365
    output: int = 12


AXES: dict[str, tuple[int, ...]] = {
    "tasks": (8, 16, 32, 64),
    "instances": (2, 4, 8, 16),
    "perturbations": (2, 4, 8, 16),
    "prompt": (200, 400, 800, 1600),
    "output": (4, 8, 16, 32),
}

PARTS = ("server", "server's planners (beside it)", "engine core", "tokens")


def exponent(values: Sequence[float], costs: Sequence[float]) -> tuple[float, float]:
    """The power of a value that a cost grows with, and half the width of its interval at 95 %."""
    x = [math.log(value) for value in values]
    y = [math.log(cost) for cost in costs]
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    spread = sum((each - mean_x) ** 2 for each in x)
    slope = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / spread
    misses = [b - mean_y - slope * (a - mean_x) for a, b in zip(x, y, strict=True)]
    freedom = len(x) - 2
    error = math.sqrt(sum(miss**2 for miss in misses) / freedom / spread)
    return slope, t_quantile(freedom) * error


def seeds(axis: str, value: int, repeats: int) -> range:
    """Of the warm-up and each repeat. No two values share one: texts that are known are cheap."""
    values = [(each, n) for each in AXES for n in AXES[each]]
    first = values.index((axis, value)) * (repeats + 1)
    return range(first, first + repeats + 1)


Costs = dict[int, dict[str, float]]
"""Of each part and the number of pairs, by the value of an axis."""


async def grow(llm: Any, builder: PromptBuilder, axis: str, repeats: int) -> Costs:
    """The median cost of each part at each value of an axis."""
    found: Costs = {}
    for value in AXES[axis]:
        given = replace(Setting(), **{axis: value})
        config = ScoreConfig(
            n_instances=given.instances,
            n_perturbations=given.perturbations,
            reference="gold",
        )
        shape = Shape(prompt_tokens=given.prompt, output_tokens=given.output)
        warm_up, *drawn = (
            synthetic_tasks(n_tasks, given.instances, shape, seed, builder)
            for seed, n_tasks in zip(
                seeds(axis, value, repeats), [WARM_UP, *[given.tasks] * repeats], strict=True
            )
        )
        runs = [await measure(llm, config, tasks, warm_up) for tasks in drawn]
        found[value] = {part: median(run[part] for run in runs) for part in (*PARTS, "pairs")}
    return found


def show(found: dict[str, Costs], result: ResultFile) -> dict[str, float]:
    """Both tables, and their figures."""
    result.table(
        "CPU ms a pair, and tokens that a model would compute a pair",
        ["what", "value", "pairs", *PARTS],
        [
            [axis, str(value), f"{costs['pairs']:.0f}"]
            + [f"{1000 * costs[part] / costs['pairs']:.3f}" for part in PARTS[:-1]]
            + [f"{costs['tokens'] / costs['pairs']:.1f}"]
            for axis, of_axis in found.items()
            for value, costs in of_axis.items()
        ],
    )
    powers = {
        (axis, part): exponent([*of_axis], [costs[part] for costs in of_axis.values()])
        for axis, of_axis in found.items()
        for part in PARTS
    }
    result.table(
        "power with which the whole cost grows; interval at 95 %",
        ["with", *PARTS],
        [
            [
                axis,
                *(f"{powers[axis, part][0]:.2f} ± {powers[axis, part][1]:.2f}" for part in PARTS),
            ]
            for axis in found
        ],
    )
    figures = {f"{part} by {axis}": power for (axis, part), (power, _) in powers.items()}
    if "tasks" in found:
        usual = found["tasks"][Setting().tasks]
        for part in PARTS[:-1]:
            figures[f"pairs/s of {part}"] = rate = usual["pairs"] / usual[part]
            result.print(
                f"{part}: {rate:.0f} pairs/s at most, prompts of {Setting().prompt} tokens"
            )
    return figures


def pool_over_http(n_tasks: int) -> tuple[float, str]:
    """Tasks a second, and a line that says so, with the memory of both sides."""
    command = [sys.executable, "-m", "tests.engine.scale_client", str(n_tasks)]
    began = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    rate = n_tasks / (time.perf_counter() - began)
    _, client, server = done.stdout.split()
    return rate, (
        f"{n_tasks:,} tasks of 2 instances and 2 perturbations over HTTP, engine made up: "
        f"{rate:.0f} tasks/s, at most {client} MB in the client and {server} MB in the server"
    )


def main() -> None:
    """Measures and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--pool", type=int, default=4_000, help="short tasks over HTTP; 0: none")
    parser.add_argument("--axes", nargs="*", default=[*AXES], choices=[*AXES])
    parser.add_argument("--keep", type=Path, help="folder that keeps each axis")
    parser.add_argument("--results", type=Path, default=RESULTS)
    chosen = parser.parse_args()
    if chosen.keep:
        keep_for(chosen.keep, {"model": chosen.model, "repeats": chosen.repeats})
    # First: the largest memory of a child is at least that of its parent.
    over_http = pool_over_http(chosen.pool) if chosen.pool else None
    builder = prompt_builder(str(resolve_model(chosen.model)), ScoreConfig())

    async def run(axis: str) -> Costs:
        return await grow(llm, builder, axis, chosen.repeats)

    found: dict[str, Costs] = {}
    llm, loop = None, asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    for axis in chosen.axes:
        file = chosen.keep / f"{axis}.json" if chosen.keep else None
        if file and file.exists():
            found[axis] = {int(value): each for value, each in json.loads(file.read_text()).items()}
            continue
        llm = llm or made_up_llm(chosen.model)
        found[axis] = loop.run_until_complete(run(axis))
        if file:
            write_json(file, found[axis])
    result = ResultFile("scaling", chosen.results)
    figures = show(found, result)
    if over_http:
        figures["tasks/s over HTTP"] = over_http[0]
        result.print(over_http[1])
    result.save(figures, chosen)


if __name__ == "__main__":
    main()
