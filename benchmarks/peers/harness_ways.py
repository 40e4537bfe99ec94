"""The harness' models, each run as `python -m benchmarks.peers.harness_ways WAY GIVEN ANSWER`.

Every way is a process of its own. The clock runs over one call of `simple_evaluate` per task, after
the model is loaded and has scored a few pairs to warm up.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
from pydantic import BaseModel

from benchmarks.peers.ways import name_vllm
from engine.process.settings import choose_settings

MAX_LENGTH = 2048
LARGEST_BATCH = 16
"""Of transformers: where finding the largest that fits begins; 64 takes minutes on two cores."""


class Given(BaseModel):
    """What a way is to do.

    Attributes:
        model: Folder of the model.
        tasks: Folder of the tasks.
        shots: Name and number of shots of each.
        eager: Whether vLLM is to run the model without compiling it.
    """

    model: str
    tasks: str
    shots: dict[str, int]
    eager: bool


class TaskResult(BaseModel):
    """What a way measured of a task.

    Attributes:
        seconds: Of the evaluation.
        cpu_seconds: Of all processes of the way together; told less wrong by a busy machine.
        metrics: Accuracies by name.
        requests: Pairs that the harness asked for.
        logprobs: Of all pairs, by question and answer.
    """

    seconds: float
    cpu_seconds: float
    metrics: dict[str, float]
    requests: int
    logprobs: list[float]


class WayResult(BaseModel):
    """What a way measured.

    Attributes:
        tasks: By name.
        started_mib: Memory of all its processes once it can score.
        peak_mib: The most they took while it did.
    """

    tasks: dict[str, TaskResult]
    started_mib: float
    peak_mib: float


def jostle_way(given: Given) -> Any:
    """Our model, with an engine of its own."""
    from engine.harness.jostle_lm import JostleLM

    flags = "--enforce-eager" if given.eager else "--no-enforce-eager"
    return JostleLM(given.model, max_length=MAX_LENGTH, engine_args=flags)


def vllm_way(given: Given) -> Any:
    """The harness' own model of vLLM."""
    name_vllm()
    from lm_eval.models.vllm_causallms import VLLM  # type: ignore[import-untyped,import-not-found,unused-ignore]

    on_cpu = choose_settings().device == "cpu"
    return VLLM(
        pretrained=given.model,
        dtype="float32" if on_cpu else "bfloat16",
        max_model_len=MAX_LENGTH,
        batch_size="auto",
        enforce_eager=given.eager,
        **({"block_size": 32, "max_num_batched_tokens": 2048} if on_cpu else {}),
    )


def transformers_way(given: Given, batch_size: int | str = "auto") -> Any:
    """The harness' own model of transformers, with batches as large as fit."""
    from lm_eval.models.huggingface import HFLM  # type: ignore[import-untyped,import-not-found,unused-ignore]

    on_cpu = choose_settings().device == "cpu"
    return HFLM(
        pretrained=given.model,
        dtype="float32" if on_cpu else "bfloat16",
        max_length=MAX_LENGTH,
        batch_size=batch_size,
        max_batch_size=LARGEST_BATCH,
        device="cpu" if on_cpu else "cuda",
    )


WAYS: dict[str, Callable[[Given], Any]] = {
    "jostle": jostle_way,
    "vllm": vllm_way,
    "transformers": transformers_way,
    "transformers_8": functools.partial(transformers_way, batch_size=8),
}


class Memory:
    """Watches what this process and all below it take; a context manager."""

    def __init__(self) -> None:
        self.peak_mib = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.5):
            self.peak_mib = max(self.peak_mib, memory_mib())


def memory_mib() -> float:
    """Memory of this process and all below it, shared pages once."""
    me = psutil.Process()
    total = 0
    for process in (me, *me.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            total += process.memory_full_info().pss
    return total / 2**20


def cpu_seconds() -> float:
    """What this process and all below it have computed, in seconds."""
    me = psutil.Process()
    total = 0.0
    for process in (me, *me.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
    return total


def evaluate(harness: Any, given: Given, name: str) -> TaskResult:
    """One task."""
    import lm_eval  # type: ignore[import-untyped,import-not-found,unused-ignore]
    from lm_eval.tasks import TaskManager  # type: ignore[import-untyped,import-not-found,unused-ignore]

    tasks = TaskManager(include_path=given.tasks, include_defaults=False)
    before, started = cpu_seconds(), time.perf_counter()
    found = lm_eval.simple_evaluate(
        harness,
        tasks=[name],
        task_manager=tasks,
        num_fewshot=given.shots[name],
        bootstrap_iters=0,
        log_samples=True,
    )
    seconds, cpu = time.perf_counter() - started, cpu_seconds() - before
    metrics = {
        metric.partition(",")[0]: value
        for metric, value in found["results"][name].items()
        if metric.startswith("acc") and "stderr" not in metric
    }
    samples = sorted(found["samples"][name], key=lambda sample: sample["doc_id"])
    logprobs = [float(answer[0]) for sample in samples for answer in sample["filtered_resps"]]
    return TaskResult(
        seconds=seconds, cpu_seconds=cpu, metrics=metrics, requests=len(logprobs), logprobs=logprobs
    )


def main(way: str, given_file: Path, answer_file: Path) -> None:
    """Evaluates the tasks one way."""
    from lm_eval.api.instance import Instance  # type: ignore[import-untyped,import-not-found,unused-ignore]

    given = Given.model_validate_json(given_file.read_bytes())
    harness = WAYS[way](given)
    pairs = [(f"A few words, {number} of them, to", " warm up") for number in range(4)]
    harness.loglikelihood(
        [
            Instance("loglikelihood", {}, pair, number, ("", None, None))
            for number, pair in enumerate(pairs)
        ]
    )
    started_mib = memory_mib()
    with Memory() as memory:
        tasks = {name: evaluate(harness, given, name) for name in given.shots}
    peak = max(started_mib, memory.peak_mib)
    answer = WayResult(tasks=tasks, started_mib=started_mib, peak_mib=peak)
    answer_file.write_text(answer.model_dump_json())


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
