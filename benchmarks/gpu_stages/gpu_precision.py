"""Stage `precision` of `benchmarks.gpu`: exact, and loads judged rightly, in each precision."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.common.pairs import BenchmarkPairs, all_pairs, gold_outputs, sample_tasks
from benchmarks.gpu_stages.gpu_stage import Bench, Note, going_on
from benchmarks.gpu_stages.precision_answer import Load, Reference, Tokens
from benchmarks.peers.contenders import Server
from engine.client import EngineClient
from engine.errors import EngineError
from engine.process.gpu_memory import GIB, visible_gpus
from engine.process.settings import FLOAT32_VARIABLE
from engine.protocol.score_config import ScoreConfig

PRECISIONS: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {
    "bfloat16": (("--dtype=bfloat16",), {}),
    "float32": (("--dtype=float32",), {FLOAT32_VARIABLE: "ieee"}),
    "float32 in TF32": (("--dtype=float32", "--enable-sleep-mode"), {FLOAT32_VARIABLE: "tf32"}),
}
"""By name, flags and environment."""

DESIGN = ScoreConfig(n_instances=4, n_perturbations=4, reference="gold")


class PrecisionStage:
    """Starts an engine per precision and the reference beside them, and asks them in turn."""

    name = "precision"
    estimate_s = 100.0
    gib = 14.0
    timed = patient = False

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._folder = bench.out / self.name
        on_cpu = bench.gib is None
        names = ["float32"] if on_cpu else [*PRECISIONS]
        self._servers = {
            name: Server(
                name,
                bench.small,
                self._folder,
                (*PRECISIONS[name][0], "--max-model-len=2048", *bench.memory(2.0)),
                PRECISIONS[name][1],
                eager=True,
            )
            for name in names
        }
        self._reference: subprocess.Popen[bytes] | None = None
        self._pairs: BenchmarkPairs | None = None

    def begin(self) -> None:
        """Starts all that starts."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for server in self._servers.values():
            server.start()
        builder = self._bench.builder(self._bench.small)
        tasks = sample_tasks(self._bench.few(3), DESIGN, 0, builder, self._bench.tasks)
        outputs = gold_outputs(tasks, DESIGN, builder)
        self._pairs = all_pairs(tasks, outputs, DESIGN, builder, self._bench.small)
        if self._bench.tiny:
            self._pairs = self._pairs.first(8)
        given = self._folder / "pairs.json"
        given.write_text(self._pairs.model_dump_json())
        with (self._folder / "reference.log").open("wb") as log:
            self._reference = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "benchmarks.gpu_stages.precision_reference",
                    given,
                    self._folder,
                ],
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def work(self, note: Note) -> None:
        """One row of exactness per precision, and one per load."""
        assert self._reference is not None
        assert self._pairs is not None
        if self._reference.wait(240) != 0:
            raise EngineError(f"the reference failed: see {self._folder}/reference.log")
        text = (self._folder / "reference.json").read_text()
        reference = Reference.model_validate_json(text)
        note({"kind": "exact", "engine": "transformers in bfloat16"} | self._rounded(reference))
        for name, server in self._servers.items():
            with going_on(note, {"kind": "exact", "engine": name}):
                client = server.wait()
                note(
                    {"kind": "exact", "engine": name, "start_s": server.seconds}
                    | compare(client, self._pairs, reference.float32)
                )
                for load in reference.loads:
                    note({"kind": "load", "engine": name} | try_load(client, load))
                if "--enable-sleep-mode" in PRECISIONS[name][0]:
                    note({"kind": "load", "engine": name} | try_sleep(client))
            server.stop()

    def stop(self) -> None:
        """Ends what it has started."""
        for server in self._servers.values():
            server.stop()
        if self._reference is not None:
            self._reference.kill()
            self._reference.wait()

    def _rounded(self, reference: Reference) -> dict[str, Any]:
        return differences(reference.float32.logprobs, reference.bfloat16.logprobs)


def compare(client: EngineClient, pairs: BenchmarkPairs, exact: Tokens) -> dict[str, Any]:
    """How far an engine is off, and how far it moves when it is asked again."""
    body = pairs.token_pairs
    first, second = (client.completion_logprobs(body, tokens=True) for _ in range(2))
    one, two = ([each.token_logprobs or () for each in given.results] for given in (first, second))
    again = differences(one, two)
    row = differences(exact.logprobs, one) | {
        "again_max_dp": again["max_dp"],
        "again_max_dlogp": again["max_dlogp"],
        "pairs_rescored": first.usage.pairs_rescored,
        "again_pairs_rescored": second.usage.pairs_rescored,
    }
    greedy = [each.token_is_greedy for each in first.results]
    if None not in greedy:
        wanted = np.concatenate(exact.ranks) == 1
        found = np.concatenate([each or () for each in greedy])
        row |= {
            "tokens": wanted.size,
            "tokens_greedy": int(wanted.sum()),
            "greedy_agree": int((wanted == found).sum()),
        }
    return row


def differences(
    one: Sequence[Sequence[float]], other: Sequence[Sequence[float]]
) -> dict[str, float]:
    """Of probabilities (geometric means over a pair's tokens) and of tokens' log-probabilities."""
    tokens = np.abs(np.concatenate([np.subtract(a, b) for a, b in zip(one, other, strict=True)]))
    p = np.abs([np.exp(np.mean(a)) - np.exp(np.mean(b)) for a, b in zip(one, other, strict=True)])
    return {
        "max_dp": float(p.max()),
        "mean_dp": float(p.mean()),
        "max_dlogp": float(tokens.max()),
        "mean_dlogp": float(tokens.mean()),
    }


def try_sleep(client: EngineClient) -> dict[str, Any]:
    """What a sleep frees, and whether the same weights are live after it."""
    before = client.weights().version, _used()
    started = time.perf_counter()
    client.release_weights()
    asleep, middle = _used(), time.perf_counter()
    accepted = client.restore_weights().version == before[0]
    return {
        "load": f"a sleep that freed {(before[1] - asleep) / GIB:.1f} GiB for a moment",
        "seconds": time.perf_counter() - middle,
        "seconds_to_sleep": middle - started,
        "accepted": accepted,
        "right": accepted,
    }


def _used() -> int:
    return sum(gpu.used or 0 for gpu in visible_gpus())


def try_load(client: EngineClient, load: Load) -> dict[str, Any]:
    """Whether the engine takes a checkpoint, and what it should have done."""
    started, said = time.perf_counter(), ""
    try:
        client.load_weights(load.folder, load.version)
    except EngineError as error:
        said = str(error).replace(f"{load.folder.parent}/", "")
    return {
        "load": load.name,
        "seconds": time.perf_counter() - started,
        "accepted": not said,
        "right": (not said) == load.accepted,
        "said": said,
    }
