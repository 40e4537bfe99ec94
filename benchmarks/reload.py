"""Changing the weights of a running server against starting it again: one run, one ratio.

    python -m benchmarks.reload [--loads 6] [--starts 2] [--model NAME]

A load is what a round pays: the call of `POST /v1/weights` on a published checkpoint, with its
checks, verification by the probes that a round writes, and the cache reset. A restart is what it
would pay otherwise: ending the server and starting one on the checkpoint until it is ready. Two
checkpoints take turns.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.common.checkpoints import publish_noise
from benchmarks.common.pairs import prompt_builder
from benchmarks.common.result_file import RESULTS, ResultFile
from engine.client import EngineClient
from engine.pools.bundled import training_pool
from engine.process.engine_process import EngineProcess
from engine.weights.models import resolve_model
from training.config.run_config import RunConfig
from training.trainer.training_rows import build_rows, choose_probes


def round_probes(model: str) -> list[tuple[Sequence[int], Sequence[int]]]:
    """Token ids of the probes that a round writes which has chosen tasks of the bundled pool."""
    config, pool = RunConfig(), training_pool()
    chosen = random.Random(0).sample(range(len(pool)), config.select.n_tasks)
    builder = prompt_builder(model, config.score)
    probes = choose_probes(build_rows([pool[index] for index in chosen], builder, config).frame)
    return [(probe.prompt_token_ids, probe.completion_token_ids) for probe in probes]


def make_checkpoints(model: str, root: Path) -> dict[str, Path]:
    """Two published checkpoints by version: the model with a little noise, and a round's probes."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    pairs = round_probes(model)
    tokenizer = AutoTokenizer.from_pretrained(model)
    checkpoints: dict[str, Path] = {}
    for seed in (1, 2):
        changed = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
        checkpoint, manifest = publish_noise(
            changed, tokenizer, Path(model), root, seed, scale=0.02, pairs=pairs
        )
        checkpoints[manifest.version] = checkpoint
    return checkpoints


def start(model: str, root: Path) -> EngineProcess:
    """A server that is ready, as the rounds start it."""
    process = EngineProcess.start(model, weights_root=root, log_file=root / "engine.log")
    process.wait_ready()
    return process


def measure_restarts(checkpoint: Path, root: Path, n: int) -> list[float]:
    """Seconds to end a server and to start one until it is ready."""
    seconds = []
    process = start(str(checkpoint), root)
    for _ in range(n):
        began = time.perf_counter()
        process.stop()
        process = start(str(checkpoint), root)
        seconds.append(time.perf_counter() - began)
    process.stop()
    return seconds


def measure_loads(model: str, checkpoints: dict[str, Path], root: Path, n: int) -> list[float]:
    """Seconds of each load, as the client sees it."""
    seconds = []
    with start(model, root) as process, EngineClient(process.url) as client:
        for index in range(n):
            version = list(checkpoints)[index % 2]
            began = time.perf_counter()
            client.load_weights(checkpoints[version], version)
            seconds.append(time.perf_counter() - began)
    return seconds


def main() -> None:
    """Measures both and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--loads", type=int, default=6)
    parser.add_argument("--starts", type=int, default=2)
    parser.add_argument("--results", type=Path, default=RESULTS)
    chosen = parser.parse_args()
    model = str(resolve_model(chosen.model))
    with tempfile.TemporaryDirectory(prefix="jostle-benchmark-") as folder:
        root = Path(folder)
        checkpoints = make_checkpoints(model, root)
        size = sum(f.stat().st_size for f in next(iter(checkpoints.values())).iterdir())
        loads = measure_loads(model, checkpoints, root, chosen.loads)
        restarts = measure_restarts(next(iter(checkpoints.values())), root, chosen.starts)
    load, restart = statistics.median(loads), statistics.median(restarts)
    result = ResultFile("reload", chosen.results, width=100)
    ways = {"restart on the checkpoint": restarts, "POST /v1/weights": loads}
    result.table(
        f"{chosen.model}, {size / 2**20:.0f} MiB of checkpoint",
        ["way", "times", "median s", "least s", "most s"],
        [
            [name, str(len(seconds))]
            + [f"{value(seconds):.2f}" for value in (statistics.median, min, max)]
            for name, seconds in ways.items()
        ],
    )
    result.print(f"a load is {restart / load:.1f} times faster than a restart")
    result.save({"median s of a load": load, "median s of a restart": restart}, chosen)


if __name__ == "__main__":
    main()
