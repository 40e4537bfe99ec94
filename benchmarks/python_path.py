"""What a pair costs in Python: milliseconds of CPU in the server, and in the engine behind it.

    python -m benchmarks.python_path [--tasks 30] [--instances 10] [--perturbations 10] [--stock]

Everything between a request's tasks and the worker, and nothing else: our scorer, vLLM's AsyncLLM,
scheduler and cache, and the V2 runner's object for log-probabilities, with a worker that computes
nothing and answers at once (`benchmarks.made_up_worker`); no GPU is needed. In a server these are
two processes, whose messages (0.04 ms a pair) are left out; the slower one bounds the rate. Real
tasks with their gold outputs; every score is checked.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import itertools
import os
import time
from pathlib import Path
from typing import Any

from benchmarks.result_file import RESULTS, ResultFile
from engine.pools.bundled import training_pool
from engine.protocol.api import TaskScore
from engine.protocol.score_config import ScoreConfig
from engine.tasks import Task
from engine.weights.models import resolve_model


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


def made_up_llm(model: str) -> Any:
    """An AsyncLLM on the V2 path whose worker makes its numbers up, set as on an H100."""
    os.environ |= {"VLLM_PLUGINS": "jostle", "VLLM_USE_V2_MODEL_RUNNER": "1"}
    import vllm.config.vllm
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
        worker_cls="benchmarks.made_up_worker.MadeUpWorker",
        dtype="bfloat16",
        block_size=16,
        max_num_batched_tokens=8192,
        max_num_seqs=1024,
    ).create_engine_config()
    config.parallel_config.distributed_executor_backend = "uni"
    return AsyncLLM(config, UniProcExecutor, log_stats=True, log_requests=False)


def some_tasks(count: int) -> list[Task]:
    """So many tasks, the bundled ones over and over."""
    bundled = itertools.islice(itertools.cycle(training_pool()), count)
    return [task.model_copy(update={"id": f"{n}"}) for n, task in enumerate(bundled)]


def check(score: TaskScore) -> int:
    """The pairs of a score; each as the worker makes them up."""
    import torch

    from benchmarks.made_up_worker import logprob

    expected = {
        each.instance_id: float(logprob(torch.tensor(each.token_ids)).mean().exp())
        for each in score.references
    }
    for pair in score.pairs:
        assert abs(pair.probability - expected[pair.instance_id]) < 1e-5, (score.task_id, pair)
    return len(score.pairs)


_runs = itertools.count()  # nothing of an earlier run is read from the cache


async def measure(
    llm: Any, config: ScoreConfig, tasks: list[Task], *, stock: bool = False
) -> dict[str, float]:
    """Pairs, tokens computed, and CPU seconds of the server's loop, its planners, the engine core.

    Some of the tasks are scored before, to warm up.
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
    await score(tasks[:8], "warm-up")
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


def main() -> None:
    """Scores, and prints milliseconds of CPU a pair."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--tasks", type=int, default=30)
    parser.add_argument("--instances", type=int, default=10)
    parser.add_argument("--perturbations", type=int, default=10)
    parser.add_argument("--stock", action="store_true", help="vLLM's own scoring of fixed ids")
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args()
    config = ScoreConfig(
        n_instances=given.instances, n_perturbations=given.perturbations, reference="gold"
    )

    async def run() -> dict[str, float]:
        return await measure(
            made_up_llm(given.model), config, some_tasks(given.tasks), stock=given.stock
        )

    found = asyncio.run(run())
    n_pairs, _ = found.pop("pairs"), found.pop("tokens")
    result = ResultFile("python_path" + "_stock" * given.stock, given.results)
    result.table(
        f"{n_pairs:.0f} pairs",
        ["of", "CPU ms a pair", "pairs/s at most"],
        [
            [name, f"{1000 * seconds / n_pairs:.3f}", f"{n_pairs / seconds:.0f}"]
            for name, seconds in found.items()
        ],
    )
    result.save(
        {f"CPU ms a pair, {name}": 1000 * each / n_pairs for name, each in found.items()}, given
    )


if __name__ == "__main__":
    main()
