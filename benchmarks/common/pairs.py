"""The pairs that the scoring benchmark gives to every way, made once and written to a file."""

from __future__ import annotations

import json
import random
from pathlib import Path

from pydantic import BaseModel

from engine.pools.bundled import training_pool
from engine.pools.niv2 import load_niv2
from engine.prompts import PromptBuilder
from engine.protocol.completions import TokenPair
from engine.protocol.score_config import ScoreConfig
from engine.questions.pair_plan import plan_pairs, plan_task
from engine.tasks import Pool, Task

REAL_TASKS = Path("../shared/data/niv2/tasks")
MAX_MODEL_LEN = 2048


class BenchmarkPairs(BaseModel):
    """Pairs as token ids, in the order the pair plan gives them.

    Attributes:
        model: Folder of the model.
        prompts: Prompt token ids, one row per pair.
        outputs: Output token ids, one row per pair.
    """

    model: str
    prompts: list[list[int]]
    outputs: list[list[int]]

    @property
    def token_pairs(self) -> list[TokenPair]:
        """As the client asks for them."""
        return [
            TokenPair(prompt_token_ids=tuple(prompt), completion_token_ids=tuple(output))
            for prompt, output in zip(self.prompts, self.outputs, strict=True)
        ]

    def drawn(self, n: int) -> BenchmarkPairs:
        """So many of all, at most, in their order."""
        size = len(self.prompts)
        places = sorted(random.Random(0).sample(range(size), min(n, size)))
        return BenchmarkPairs(
            model=self.model,
            prompts=[self.prompts[place] for place in places],
            outputs=[self.outputs[place] for place in places],
        )

    def first(self, n: int) -> BenchmarkPairs:
        """The first so many."""
        return BenchmarkPairs(model=self.model, prompts=self.prompts[:n], outputs=self.outputs[:n])


def benchmark_pool(folder: Path = REAL_TASKS) -> Pool:
    """The real tasks if they are there, else the bundled ones."""
    return load_niv2(folder) if folder.is_dir() else training_pool()


def sample_tasks(
    n_tasks: int,
    config: ScoreConfig,
    seed: int,
    builder: PromptBuilder,
    folder: Path = REAL_TASKS,
) -> list[Task]:
    """A seeded sample of the tasks that have enough instances and fit the context."""
    pool = benchmark_pool(folder)
    order = random.Random(seed).sample(range(len(pool)), len(pool))
    chosen: list[Task] = []
    for index in order:
        task = pool[index]
        if len(task.instances) < config.n_instances:
            continue
        plan = plan_task(task, config, builder)
        # Very long prompts would leave the padded baseline without memory on a small machine.
        if max(len(original.token_ids) for original in plan.originals) <= 1024:
            chosen.append(task)
        if len(chosen) == n_tasks:
            break
    return chosen


def prompt_builder(model: str, config: ScoreConfig) -> PromptBuilder:
    """The prompt builder of a model's folder."""
    from transformers import AutoTokenizer

    return PromptBuilder(AutoTokenizer.from_pretrained(model), config.prompt, MAX_MODEL_LEN)


def greedy_references(
    tasks: list[Task],
    config: ScoreConfig,
    builder: PromptBuilder,
    model: str,
    kept: Path | None = None,
) -> list[list[tuple[int, ...]]]:
    """The reference outputs of each task's instances, by transformers, one after the other.

    Args:
        kept: A folder that keeps those of each task, of one config.
    """
    import torch

    from benchmarks.common.hf_model import load_model

    network, device = load_model(model)

    def greedy(prompt: tuple[int, ...]) -> tuple[int, ...]:
        with torch.inference_mode():
            (row,) = network.generate(
                input_ids=torch.tensor([prompt], device=device),
                attention_mask=torch.ones(1, len(prompt), dtype=torch.long, device=device),
                do_sample=False,
                max_new_tokens=config.max_output_tokens,
                eos_token_id=builder.end,
                pad_token_id=builder.end,
            )
        return tuple(row[len(prompt) :].tolist())

    found = []
    for task in tasks:
        file = kept / f"{task.id}.references" if kept else None
        if file and file.exists():
            found.append([tuple(output) for output in json.loads(file.read_text())])
            continue
        plan = plan_task(task, config, builder)
        found.append([greedy(original.token_ids) for original in plan.originals])
        if file:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(found[-1]))
    return found


def gold_outputs(
    tasks: list[Task], config: ScoreConfig, builder: PromptBuilder
) -> list[list[tuple[int, ...]]]:
    """The first gold output of every instance that a design with gold outputs measures."""
    return [
        [
            builder.completion(instance.outputs[0])
            for instance in plan_task(task, config, builder).instances
        ]
        for task in tasks
    ]


def all_pairs(
    tasks: list[Task],
    outputs: list[list[tuple[int, ...]]],
    config: ScoreConfig,
    builder: PromptBuilder,
    model: str,
) -> BenchmarkPairs:
    """All n * (k + 1) pairs of each task, original prompts included."""
    pairs = [
        pair
        for task, references in zip(tasks, outputs, strict=True)
        for pair in plan_pairs(plan_task(task, config, builder), references, config, builder)
    ]
    return BenchmarkPairs(
        model=model,
        prompts=[list(pair.prompt) for pair in pairs],
        outputs=[list(pair.output) for pair in pairs],
    )
