"""What rounding makes of prompt uncertainty: predicted from a few second readings, and observed.

    python -m benchmarks.noise_floor [--tasks 20] [--only "vllm bfloat16"]

Real tasks are scored twice, all pairs of the second scoring in another order and with nothing
reused of the first. The prediction is made from the first alone. Four ways: vLLM, asked in this
process, in float32 and in bfloat16; and transformers, in padded batches of whatever is waiting, in
bfloat16 and in `tf32`, which vLLM has not got on a CPU (inputs and weights of linear layers are
rounded to 10 bits of mantissa). The second scoring of transformers has another attention kernel,
for on a CPU other company changes next to nothing.

A way that was measured before is not measured again, and keeps its line.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.common.own_engine import own_engine
from benchmarks.common.pairs import benchmark_pool
from benchmarks.common.turns import keep_for
from benchmarks.peers.padded_backend import PaddedBackend, rounded
from engine.measures import prompt_uncertainty
from engine.prompts import PromptBuilder
from engine.protocol.api import TaskScore
from engine.protocol.score_config import ScoreConfig
from engine.questions.backend import Backend
from engine.questions.pair_plan import plan_task
from engine.questions.scorer import TaskScorer
from engine.tasks import Task
from engine.variance.overlap import expected_overlap, top
from engine.variance.pair_grid import PairGrid
from engine.variance.rounding_noise import SecondReadings, rounding_noise
from engine.weights.models import BUNDLED_MODEL, resolve_model

RECORDS = Path("runs/noise-floor")
RESULT = Path("benchmarks/results/noise_floor.txt")
CONTEXT = 512
WAYS = ("vllm float32", "vllm bfloat16", "padded tf32", "padded bfloat16")


class TwoScorings(BaseModel):
    """Both scorings of the same tasks, one way.

    Attributes:
        seconds: What the first one took.
    """

    first: list[TaskScore]
    second: list[TaskScore]
    seconds: float


def short_tasks(n_tasks: int, config: ScoreConfig, builder: PromptBuilder) -> list[Task]:
    """Real tasks with prompts of at most 300 tokens, in a drawn order."""
    pool = benchmark_pool()
    chosen: list[Task] = []
    for index in random.Random(0).sample(range(len(pool)), len(pool)):
        task = pool[index]
        if len(task.instances) < config.n_instances or len(task.definition) > 1500:
            continue
        originals = plan_task(task, config, builder).originals
        if max(len(original.token_ids) for original in originals) <= 300:
            chosen.append(task)
        if len(chosen) == n_tasks:
            break
    return chosen


async def score(backend: Backend, tasks: Sequence[Task], config: ScoreConfig) -> list[TaskScore]:
    """The scores of all tasks, by id."""
    scorer = TaskScorer(backend, config, "base")
    found = [each async for each in scorer.score(tasks) if isinstance(each, TaskScore)]
    return sorted(found, key=lambda each: each.task_id)


async def twice(first: Backend, second: Backend, tasks: list[Task], config: ScoreConfig) -> Any:
    """Two scorings that share nothing."""
    began = time.monotonic()
    one = await score(first, tasks, config)
    seconds = time.monotonic() - began
    shuffled = random.Random(1).sample(tasks, len(tasks))
    none = config.model_copy(update={"second_readings": 0})
    return TwoScorings(first=one, second=await score(second, shuffled, none), seconds=seconds)


async def on_vllm(precision: str, folder: str, tasks: list[Task], config: ScoreConfig) -> Any:
    """On one engine; each scoring has a prefix cache of its own."""
    from engine.server.vllm.vllm_backend import VllmBackend

    with own_engine(folder, precision, CONTEXT) as client:
        return await twice(VllmBackend(client, "1"), VllmBackend(client, "2"), tasks, config)


def on_transformers(precision: str, folder: str, tasks: list[Task], config: ScoreConfig) -> Any:
    """In padded batches."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model = rounded(model, precision)

    async def both() -> Any:
        backends = [
            PaddedBackend(model, tokenizer, CONTEXT, precision, kernel)
            for kernel in ("sdpa", "eager")
        ]
        return await twice(backends[0], backends[1], tasks, config)

    return asyncio.run(both())


def alike(found: TwoScorings) -> tuple[list[PairGrid], list[PairGrid], float]:
    """The grids of instances whose references are the same, and the share of those that are not."""
    first, second, same, every = [], [], 0, 0
    for one, two in zip(found.first, found.second, strict=True):
        outputs = [{r.instance_id: r.token_ids for r in each.references} for each in (one, two)]
        kept = {name for name, ids in outputs[0].items() if outputs[1][name] == ids}
        same, every = same + len(kept), every + len(outputs[0])
        if kept and one.prompt_uncertainty is not None:
            pairs = [[p for p in each.pairs if p.instance_id in kept] for each in (one, two)]
            first.append(PairGrid.of(pairs[0]))
            second.append(PairGrid.of(pairs[1]))
    return first, second, 1 - same / every


def row(name: str, found: TwoScorings) -> str:
    """A line of the table."""
    first, second, changed = alike(found)
    u = np.array([prompt_uncertainty(grid) for grid in first])
    v = np.array([prompt_uncertainty(grid) for grid in second])
    noise = rounding_noise([SecondReadings.of(grid) for grid in first])
    floors, errors = np.array([each or (np.nan, np.nan) for each in noise]).T
    floor = np.concatenate(
        [np.abs(b.originals - a.originals) for a, b in zip(first, second, strict=True)]
    ).mean()
    half = len(u) // 2
    again = np.isin(top(v, half), top(u, half)).mean()
    off = np.sqrt(((u - v) ** 2).mean() / 2)
    return (
        f"{name:<18}{len(found.first):>6}{u.mean():8.4f}{u.std(ddof=1):8.4f}{floors.mean():11.1e}{floor:9.1e}"
        f"{np.sqrt((errors**2).mean()):11.1e}{off:9.1e}{np.abs(u - v).max():9.1e}"
        f"{expected_overlap(u, errors, half):9.2f}{again:6.2f}{changed:7.0%}{found.seconds:8.0f}"
    )


HEAD = (
    f"{'':<24}{'U':>8}{'':>8}{'noise floor':>20}{'error of U by noise':>20}{'':>9}"
    f"{'top half again':>15}{'other':>7}{'':>8}\n"
    f"{'':<18}{'tasks':>6}{'mean':>8}{'sd':>8}{'predicted':>11}{'seen':>9}{'predicted':>11}{'seen':>9}"
    f"{'largest':>9}{'pred.':>9}{'seen':>6}{'refs':>7}{'seconds':>8}"
)


def main() -> None:
    """Does what is not there yet, and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", help="One way, such as `vllm bfloat16`.")
    parser.add_argument("--tasks", type=int, default=20)
    args = parser.parse_args()
    config = ScoreConfig(
        n_instances=2, n_perturbations=2, max_output_tokens=6, second_readings=2, seed=1
    )
    folder = str(resolve_model(BUNDLED_MODEL))
    builder = PromptBuilder(AutoTokenizer.from_pretrained(folder), config.prompt, 1 << 20)
    tasks = short_tasks(args.tasks, config, builder)
    keep_for(RECORDS, {"tasks": args.tasks})
    known = {line[:18].strip(): line for line in RESULT.read_text().splitlines()}
    lines = ["Real tasks, n = k = 2, two originals of each read again", "", HEAD]
    for way in WAYS:
        kind, _, precision = way.partition(" ")
        record = RECORDS / f"{kind}-{precision}.json"
        if not record.is_file() and args.only in (None, way):
            if kind == "vllm":
                found = asyncio.run(on_vllm(precision, folder, tasks, config))
            else:
                found = on_transformers(precision, folder, tasks, config)
            record.write_text(found.model_dump_json())
        if record.is_file():
            lines.append(row(way, TwoScorings.model_validate_json(record.read_text())))
        elif way in known:
            lines.append(known[way])
    print("\n".join(lines))
    RESULT.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
