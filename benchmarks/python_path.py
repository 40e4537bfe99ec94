"""Pairs a second that the Python of one API process and one engine core carries.

    python -m benchmarks.python_path [--tasks 40] [--instances 10] [--perturbations 10] [-- FLAGS]

The worker computes nothing and answers at once (`benchmarks.made_up_worker`), so no GPU is needed
and all that counts is CPU time of the two processes. They run side by side: the slower one bounds
the rate. Real tasks with their gold outputs, scored in one request; every score is checked.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
from rich.console import Console
from rich.table import Table

from engine.client import EngineClient
from engine.pools.bundled import training_pool
from engine.process.lifetime import cpu_seconds
from engine.protocol.api import TaskScore
from engine.protocol.score_config import ScoreConfig
from engine.tasks import Task
from engine.weights.models import resolve_model

MADE_UP = (
    "--worker-cls=benchmarks.made_up_worker.MadeUpWorker",
    "--dtype=bfloat16",
    "--block-size=16",
    "--max-num-batched-tokens=8192",
    "--max-num-seqs=1024",
    "--distributed-executor-backend=uni",
    "--host=127.0.0.1",
)
"""As vLLM's defaults are on an H100."""

PROCESSES = ("APIServer", "EngineCore")


@contextlib.contextmanager
def made_up_engine(model: str, log: Path, flags: Sequence[str] = ()) -> Iterator[str]:
    """The address of an engine on the V2 path whose worker makes its numbers up, ready."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "benchmarks.made_up_worker", str(resolve_model(model))]
    with log.open("wb") as file:
        process = subprocess.Popen(
            [*command, f"--port={port}", *MADE_UP, *flags],
            env={**os.environ, "VLLM_PLUGINS": "jostle", "VLLM_USE_V2_MODEL_RUNNER": "1"},
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        while process.poll() is None:
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"http://127.0.0.1:{port}/ready").is_success:
                    break
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def used(log: Path) -> dict[str, float]:
    """CPU seconds of each process so far, by what vLLM calls it in the log."""
    pids = dict(re.findall(r"\((\w+) pid=(\d+)\)", log.read_text()))
    return {name: cpu_seconds(int(pids[name])) for name in PROCESSES}


def some_tasks(count: int) -> list[Task]:
    """So many tasks, the bundled ones over and over."""
    bundled = itertools.islice(itertools.cycle(training_pool()), count)
    return [task.model_copy(update={"id": f"{n}"}) for n, task in enumerate(bundled)]


def check(scores: list[TaskScore]) -> int:
    """Pairs of all scores; each as the worker makes them up."""
    import torch

    from benchmarks.made_up_worker import logprob

    n_pairs = 0
    for score in scores:
        expected = {
            each.instance_id: float(logprob(torch.tensor(each.token_ids)).mean().exp())
            for each in score.references
        }
        for pair in score.pairs:
            assert abs(pair.probability - expected[pair.instance_id]) < 1e-5, (score.task_id, pair)
        n_pairs += len(score.pairs)
    return n_pairs


def main() -> None:
    """Starts the engine, scores, prints pairs a second and milliseconds of CPU a pair."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--tasks", type=int, default=40)
    parser.add_argument("--instances", type=int, default=10)
    parser.add_argument("--perturbations", type=int, default=10)
    parser.add_argument("flags", nargs="*", help="further flags of vLLM, behind --")
    arguments = parser.parse_args()
    config = ScoreConfig(
        n_instances=arguments.instances,
        n_perturbations=arguments.perturbations,
        reference="gold",
    )
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "engine.log"
        with (
            made_up_engine(arguments.model, log, arguments.flags) as url,
            EngineClient(url) as client,
        ):
            list(client.score(some_tasks(4), config))
            before, began = used(log), time.perf_counter()
            scores = list(client.score(some_tasks(arguments.tasks), config))
            seconds, after = time.perf_counter() - began, used(log)
    n_pairs = check(scores)
    table = Table(title=f"{n_pairs} pairs, {seconds:.1f} s, {n_pairs / seconds:.0f} pairs/s here")
    for column in ("process", "CPU ms a pair", "pairs/s at most"):
        table.add_column(column, justify="right" if column != "process" else "left")
    for name in PROCESSES:
        cost = (after[name] - before[name]) / n_pairs
        table.add_row(name, f"{1000 * cost:.3f}", f"{1 / cost:.0f}")
    Console().print(table)


if __name__ == "__main__":
    main()
