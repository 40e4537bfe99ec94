"""What a pair costs in Python: milliseconds of CPU in the server, and in the engine behind it.

    python -m benchmarks.python_path [--tasks 12] [--turns 3] [--before CHECKOUT] [--stock|--tails]

Everything between a request's tasks and the worker, and nothing else: our scorer, vLLM's AsyncLLM,
scheduler and cache, and the V2 runner's object for log-probabilities, with a worker that computes
nothing and answers at once (`benchmarks.common.made_up_worker`); no GPU is needed. In a server
these are two processes, whose messages (0.04 ms a pair) are left out; the slower one bounds the
rate. Real tasks with their gold outputs; every score is checked. Each turn is a process of its own,
with other tasks than the turns before, after tasks that are not measured, so that nothing is known
of a text beforehand. `--before` measures the engine of another checkout beside this one's, in
turns; `--tails` beside whole blocks of the cache the sharing of prefixes to their last token, and
how many tokens each of the two computes.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import itertools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import mean, median
from typing import Any

from pydantic import BaseModel

from benchmarks.common.pairs import prompt_builder, sample_tasks
from benchmarks.common.result_file import RESULTS, ResultFile
from benchmarks.common.turns import in_turns
from engine.process.settings import TAILS_CONNECTOR
from engine.protocol.api import TaskScore
from engine.protocol.score_config import ScoreConfig
from engine.questions.pair_plan import plan_task
from engine.tasks import Task
from engine.weights.models import resolve_model

BEFORE, NOW, TAILS = "before", "now", "tails shared"

WARM_UP = 8
"""Tasks that are scored and not measured."""


class CoreInProcess:
    """What AsyncLLM asks of its engine core, which runs here instead of in another process.

    Attributes:
        seconds: CPU time of the engine core so far.
    """

    def __init__(self, config: Any) -> None:
        from vllm.v1.engine.core import EngineCore
        from vllm.v1.executor.uniproc_executor import UniProcExecutor

        self.core = EngineCore(config, UniProcExecutor, log_stats=True)
        self.seconds = 0.0
        self.resources = argparse.Namespace(engine_dead=False)
        self.engine_ranks_managed = [0]
        self._queue: list[Any] = []
        self._some = asyncio.Event()

    async def add_request_async(self, request: Any) -> None:
        """Queues a request, which the next step takes in."""
        self._queue.append(request)
        self._some.set()

    async def get_output_async(self) -> Any:
        """The outputs of the next step that has some."""
        while True:
            while not self._queue and not self.core.scheduler.has_requests():
                self._some.clear()
                await self._some.wait()
            await asyncio.sleep(0)
            began = time.thread_time()
            for request in self._queue:
                self.core.add_request(*self.core.preprocess_add_request(request))
            self._queue.clear()
            outputs = (self.core.step_fn()[0] or {}).get(0)
            self.seconds += time.thread_time() - began
            if outputs is not None and outputs.outputs:
                return outputs

    async def collective_rpc_async(self, method: str, *arguments: Any) -> Any:
        """Calls the worker."""
        return self.core.collective_rpc(method, *arguments)

    async def get_supported_tasks_async(self) -> tuple[str, ...]:
        """Generation."""
        return ("generate",)

    def shutdown(self, timeout: float | None = None) -> None:
        """Nothing to end."""


def made_up_llm(model: str, *, tails: bool = False) -> Any:
    """An AsyncLLM on the V2 path whose worker makes its numbers up, set as on an H100."""
    os.environ |= {"VLLM_PLUGINS": "jostle", "VLLM_USE_V2_MODEL_RUNNER": "1"}
    import vllm.config.vllm
    from vllm.config import KVTransferConfig
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.v1.engine.async_llm import AsyncLLM
    from vllm.v1.engine.core_client import EngineCoreClient
    from vllm.v1.executor.uniproc_executor import UniProcExecutor

    setattr(vllm.config.vllm, "HAS_TRITON", True)  # noqa: B010  the worker does without
    setattr(  # noqa: B010
        EngineCoreClient,
        "make_async_mp_client",
        staticmethod(lambda vllm_config, **_: CoreInProcess(vllm_config)),
    )
    config = AsyncEngineArgs(
        model=str(resolve_model(model)),
        worker_cls="benchmarks.common.made_up_worker.MadeUpWorker",
        dtype="bfloat16",
        block_size=16,
        max_num_batched_tokens=8192,
        max_num_seqs=1024,
        kv_transfer_config=KVTransferConfig(**TAILS_CONNECTOR) if tails else None,
    ).create_engine_config()
    config.parallel_config.distributed_executor_backend = "uni"
    return AsyncLLM(config, UniProcExecutor, log_stats=True, log_requests=False)


def check(score: TaskScore) -> int:
    """The pairs of a score; each as the worker makes them up."""
    import torch

    from benchmarks.common.made_up_worker import logprob

    expected = {
        each.instance_id: float(logprob(torch.tensor(each.token_ids)).mean().exp())
        for each in score.references
    }
    for pair in score.pairs:
        assert abs(pair.probability - expected[pair.instance_id]) < 1e-5, (score.task_id, pair)
    return len(score.pairs)


_runs = itertools.count()  # nothing of an earlier run is read from the cache


async def measure(
    llm: Any, config: ScoreConfig, tasks: list[Task], warm_up: list[Task], *, stock: bool = False
) -> dict[str, float]:
    """Pairs, tokens computed, and CPU seconds of the server's loop, its planners, the engine core.

    Args:
        warm_up: Other tasks, scored before: what is kept of texts must not be of those measured.
    """
    from engine.questions.scorer import TaskScorer
    from engine.server.vllm.selftest import enable_extensions
    from engine.server.vllm.vllm_backend import NONE, VllmBackend

    extensions = await enable_extensions(llm)

    async def score(tasks: list[Task], salt: str) -> list[TaskScore]:
        backend = VllmBackend(llm, salt, extensions=NONE if stock else extensions)
        scorer = TaskScorer(backend, config, "v1")
        await scorer.check(tasks)
        scores = []
        async for each in scorer.score(tasks):
            assert isinstance(each, TaskScore)
            each.model_dump_json()
            scores.append(each)
        return scores

    # vLLM copies its tokenizer for each thread that wants one at the same time.
    await score(warm_up, "warm-up")
    gc.collect()
    gc.freeze()  # as vLLM's server does
    core, loop, whole = llm.engine_core.seconds, time.thread_time(), time.process_time()
    scores = await score(tasks, f"{next(_runs)}")
    core, loop = llm.engine_core.seconds - core, time.thread_time() - loop
    whole = time.process_time() - whole
    return {
        "pairs": sum(map(check, scores)),
        "tokens": sum(each.usage.tokens_computed for each in scores),
        "server": loop - core,
        "server's planners (beside it)": whole - loop,
        "engine core": core,
    }


class Turn(BaseModel):
    """What one process found.

    Attributes:
        pairs: How many were scored.
        prompt: Tokens of a prompt, in the mean.
        computed: Tokens that the engine computed.
        server: CPU seconds of the server's loop.
        planners: Of the threads beside it.
        core: Of the engine core.
    """

    pairs: int
    prompt: float
    computed: int
    server: float
    planners: float
    core: float

    @property
    def process(self) -> float:
        """CPU seconds of the whole API process."""
        return self.server + self.planners

    @property
    def slower(self) -> float:
        """Of the process that is busy for longer."""
        return max(self.process, self.core)


PARTS = {
    "its loop": "server",
    "its planners": "planners",
    "API process": "process",
    "engine core": "core",
    "slower of the two": "slower",
}


def take_turn(given: argparse.Namespace) -> Turn:
    """Scores a sample of the tasks, whose seed is the turn's."""
    config = ScoreConfig(
        n_instances=given.instances, n_perturbations=given.perturbations, reference="gold"
    )
    builder = prompt_builder(str(resolve_model(given.model)), config)
    tasks = sample_tasks(given.tasks + WARM_UP, config, given.seed, builder)
    warm_up, tasks = tasks[:WARM_UP], tasks[WARM_UP:]

    async def run() -> dict[str, float]:
        llm = made_up_llm(given.model, tails=given.tails)
        return await measure(llm, config, tasks, warm_up, stock=given.stock)

    found = asyncio.run(run())
    plans = [plan_task(task, config, builder) for task in tasks]
    lengths = [len(one.token_ids) for plan in plans for one in plan.originals]
    return Turn(
        pairs=int(found["pairs"]),
        prompt=mean(lengths),
        computed=int(found["tokens"]),
        server=found["server"],
        planners=found["server's planners (beside it)"],
        core=found["engine core"],
    )


def another_process(
    given: argparse.Namespace, engine: Path | None, seed: int, *, tails: bool = False
) -> Turn:
    """A turn in a process of its own.

    Args:
        engine: Another checkout, whose engine takes the place of this one's.
        tails: Whether prefixes are shared to their last token.
    """
    here = Path(__file__).parent.parent
    with tempfile.TemporaryDirectory() as folder:
        for name, root in (("benchmarks", here), ("engine", engine or here)):
            (Path(folder) / name).symlink_to((root / name).resolve())
        file = Path(folder) / "turn.json"
        options = {name: getattr(given, name) for name in ("model", "tasks", "instances")}
        options |= {"perturbations": given.perturbations, "seed": seed, "turn": file}
        command = [sys.executable, "-P", "-m", "benchmarks.python_path"]
        command += [f"--{name}={value}" for name, value in options.items()]
        command += ["--stock"] * given.stock + ["--tails"] * tails
        subprocess.run(command, check=True, cwd=here, env=os.environ | {"PYTHONPATH": folder})
        return Turn.model_validate_json(file.read_bytes())


def show(turns: dict[str, list[Turn]], result: ResultFile) -> dict[str, float]:
    """The table, and its figures."""
    every = [turn for of_way in turns.values() for turn in of_way]
    figures: dict[str, float] = {}
    rows = []
    for label, part in PARTS.items():
        row = [label]
        for way, of_way in turns.items():
            costs = [1000 * getattr(turn, part) / turn.pairs for turn in of_way]
            figures[f"CPU ms a pair, {label}, {way}"] = cost = median(costs)
            row += [f"{cost:.3f} ({min(costs):.3f} to {max(costs):.3f})", f"{1000 / cost:,.0f}"]
        if len(turns) > 1:
            before, after = (figures[f"CPU ms a pair, {label}, {way}"] for way in turns)
            figures[f"times, {label}"] = before / after
            row.append(f"{before / after:.2f}")
        rows.append(row)
    computed = []
    for way, of_way in turns.items():
        tokens = sum(turn.computed for turn in of_way) / sum(turn.pairs for turn in of_way)
        figures[f"tokens computed a pair, {way}"] = tokens
        computed += [f"{tokens:.1f}", ""]
    rows.append(["tokens computed", *computed, *[""] * (len(turns) > 1)])
    columns = [title for way in turns for title in (f"{way}: CPU ms a pair", "pairs/s")]
    of_each = f"{len(turns[NOW])} turns of {turns[NOW][0].pairs:,} pairs"
    length = mean(turn.prompt for turn in every)
    result.table(
        f"median (least to most) of {of_each}, prompts of {length:.0f} tokens",
        ["of", *columns, *["times"] * (len(turns) > 1)],
        rows,
    )
    return figures


def main() -> None:
    """Scores in turns, and prints milliseconds of CPU a pair."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--tasks", type=int, default=12)
    parser.add_argument("--instances", type=int, default=10)
    parser.add_argument("--perturbations", type=int, default=10)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--before", type=Path, help="a checkout whose engine is measured beside")
    parser.add_argument("--stock", action="store_true", help="vLLM's own scoring of fixed ids")
    parser.add_argument("--tails", action="store_true", help="share prefixes to their last token")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--turn", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.turn:
        given.turn.write_text(take_turn(given).model_dump_json())
        return

    def turns_of(engine: Path | None, *, tails: bool = False) -> Callable[[], Turn]:
        seeds = itertools.count()
        return lambda: another_process(given, engine, next(seeds), tails=tails)

    ways = {BEFORE: turns_of(given.before)} if given.before else {}
    ways[NOW] = turns_of(None)
    if given.tails:
        ways[TAILS] = turns_of(None, tails=True)
    turns = in_turns(Turn, ways, given.turns)
    name = "python_path" + "_stock" * given.stock + "_beside" * bool(given.before)
    name += "_tails" * given.tails
    result = ResultFile(name, given.results)
    figures = show(turns, result)
    result.save(figures, given)


if __name__ == "__main__":
    main()
