"""Collects the stored pairs of `benchmarks.adaptive`: every pair of a large design, with lengths.

    python -m benchmarks.reference_pairs [--url URL]
    python -m benchmarks.reference_pairs --pool bundled --size 10 --target FILE

The journal below `runs/` grows task by task and survives an interruption: run the command again and
it goes on, with a larger cap too. The compact file that simulations read is written at the end.
Without --url a server is started for the time it takes.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from engine.client import EngineClient
from engine.pools import open_pool
from engine.pools.niv2 import load_niv2
from engine.pools.opening import BUNDLED
from engine.process.engine_process import EngineProcess
from engine.prompts import PromptBuilder
from engine.prompts.seams import shared_prefix
from engine.protocol.api import TaskScore
from engine.protocol.score_config import ScoreConfig
from engine.questions.pair_plan import plan_pairs, plan_task
from engine.tasks import Pool, Task
from engine.weights.models import BUNDLED_MODEL, resolve_model
from training.tables.score_journal import ScoreJournal

STORED = Path(__file__).parent / "data" / "reference_pairs.parquet"
SECOND = Path(__file__).parent / "data" / "bundled_pairs.parquet"
JOURNALS = Path("runs/reference-pairs")
DESIGN = ScoreConfig(n_instances=20, n_perturbations=20, max_output_tokens=8)
"""The paper's prompts and perturbations, with outputs cut short: what is compared is designs."""

COLUMNS: dict[str, Any] = {
    "task_id": pl.String,
    "category": pl.String,
    "instance": pl.Int16,
    "perturbation": pl.Int16,
    "probability": pl.Float32,
    "n_tokens": pl.Int16,
    "prefix_tokens": pl.Int16,
    "tail_tokens": pl.Int16,
}
"""Columns of the stored file, one row per pair.

`instance` counts from 0 in the task's order, `perturbation` 0 is the original, `n_tokens` is the
length of the reference output. `prefix_tokens` is what the prompts of all the task's instances
under this perturbation have in common, `tail_tokens` the rest of the prompt.
"""

_NO_LIMIT = 1 << 20
"""A context in which no prompt loses an example; the cap on lengths is applied to whole prompts."""


def fitting_tasks(
    pool: Pool, tokenizer: Any, config: ScoreConfig, max_prompt_tokens: int
) -> list[Task]:
    """Tasks with enough instances and short prompts, shortest first.

    Args:
        pool: The tasks to choose from.
        tokenizer: The model's tokenizer.
        config: The reference design.
        max_prompt_tokens: Longest original prompt of the sampled instances.
    """
    builder = PromptBuilder(tokenizer, config.prompt, _NO_LIMIT)
    longest = {
        task.id: max(len(prompt.token_ids) for prompt in plan_task(task, config, builder).originals)
        for task in pool
        if len(task.instances) >= config.n_instances
    }
    kept = [task for task in pool if longest.get(task.id, _NO_LIMIT) <= max_prompt_tokens]
    return sorted(kept, key=lambda task: longest[task.id])


def collect(
    client: EngineClient, tasks: Sequence[Task], config: ScoreConfig, journal_file: Path
) -> dict[str, TaskScore]:
    """Scores what the journal does not yet hold; all scores by task id."""
    journal = ScoreJournal(journal_file, client.weights().version)
    done = {score.task_id for score in journal.scores()}
    waiting = [task for task in tasks if task.id not in done]
    print(f"{len(tasks) - len(waiting)} of {len(tasks)} tasks are in {journal.path}", flush=True)
    started, pairs = time.monotonic(), 0
    with journal:
        for finished, score in enumerate(client.score(waiting, config), start=1):
            journal.append(score)
            pairs += len(score.pairs)
            elapsed = time.monotonic() - started
            left = elapsed / finished * (len(waiting) - finished)
            print(
                f"{finished}/{len(waiting)} {score.task_id}: {pairs / elapsed:.1f} pairs/s, "
                f"about {left / 60:.0f} min left",
                flush=True,
            )
    return {score.task_id: score for score in journal.scores()}


def write(
    scores: dict[str, TaskScore],
    tasks: Sequence[Task],
    config: ScoreConfig,
    tokenizer: Any,
    target: Path,
) -> None:
    """Writes the compact file of the tasks that have been scored."""
    builder = PromptBuilder(tokenizer, config.prompt, _NO_LIMIT)
    scored = [task for task in tasks if task.id in scores]
    rows = [row for task in scored for row in _rows(task, scores[task.id], config, builder)]
    target.parent.mkdir(parents=True, exist_ok=True)
    pl.DataFrame(rows, schema=COLUMNS).write_parquet(
        target, compression="zstd", compression_level=19
    )
    print(f"{len(rows)} pairs of {len(scored)} tasks, {target.stat().st_size} bytes: {target}")


def _digest(pool: Pool, config: ScoreConfig) -> str:
    whole = config.model_dump_json() + pool.digest()
    return hashlib.sha256(whole.encode()).hexdigest()[:16]


def _rows(
    task: Task, score: TaskScore, config: ScoreConfig, builder: PromptBuilder
) -> list[dict[str, Any]]:
    """The rows of one task, in the order of its pairs."""
    plan = plan_task(task, config, builder)
    outputs = [reference.token_ids for reference in score.references]
    prompts: dict[int, list[tuple[int, ...]]] = {}
    for pair in plan_pairs(plan, outputs, config, builder):
        prompts.setdefault(pair.perturbation, []).append(pair.prompt)
    prefix = {j: shared_prefix(min(of_j), max(of_j)) for j, of_j in prompts.items()}
    index = {instance.id: i for i, instance in enumerate(plan.instances)}
    return [
        {
            "task_id": task.id,
            "category": task.category,
            "instance": index[pair.instance_id],
            "perturbation": pair.perturbation,
            "probability": pair.probability,
            "n_tokens": pair.n_tokens,
            "prefix_tokens": prefix[pair.perturbation],
            "tail_tokens": len(prompts[pair.perturbation][index[pair.instance_id]])
            - prefix[pair.perturbation],
        }
        for pair in score.pairs
    ]


def main() -> None:
    """Collects and writes."""
    from transformers import AutoTokenizer

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pool", default="../shared/data/niv2", help="a folder, or bundled")
    parser.add_argument("--size", type=int, default=20, help="instances, and perturbations")
    parser.add_argument("--max-prompt-tokens", type=int, default=450)
    parser.add_argument("--model", default=BUNDLED_MODEL, help="what the server serves")
    parser.add_argument("--url", help="a running server, without /v1; none: one is started")
    parser.add_argument("--target", type=Path, default=STORED)
    chosen = parser.parse_args()
    model = str(resolve_model(chosen.model))
    tokenizer = AutoTokenizer.from_pretrained(model)
    if chosen.pool == BUNDLED:
        pool = Pool(list(open_pool(BUNDLED)), BUNDLED)
    else:
        pool = load_niv2(Path(chosen.pool))
    sizes = {"n_instances": chosen.size, "n_perturbations": chosen.size}
    design = DESIGN.model_copy(update=sizes)
    tasks = fitting_tasks(pool, tokenizer, design, chosen.max_prompt_tokens)
    journal = JOURNALS / f"{_digest(pool, design)}.jsonl"
    with contextlib.ExitStack() as stack:
        url = chosen.url
        if url is None:
            server = EngineProcess.start(
                model,
                weights_root=None,
                log_file=JOURNALS / "engine.log",
                long_running=True,
                extra_args=["--max-model-len=2048"],
            )
            stack.enter_context(server).wait_ready()
            url = server.url
        client = EngineClient(url, timeout_s=3600.0, tasks_per_request=4)
        scores = collect(stack.enter_context(client), tasks, design, journal)
    write(scores, tasks, design, tokenizer, chosen.target)


if __name__ == "__main__":
    main()
