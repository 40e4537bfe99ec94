"""Stages of `benchmarks.gpu` that measure pairs per second, of servers of ours and of peers."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from benchmarks.common.floor import read_rates
from benchmarks.common.pairs import BenchmarkPairs
from benchmarks.common.random_model import weight_bytes
from benchmarks.gpu_stages.gpu_pairs import TURNS, Work, facts
from benchmarks.gpu_stages.gpu_stage import MAX_MODEL_LEN, Bench, Note, Variant, going_on
from benchmarks.peers.contenders import Peer, Server
from benchmarks.peers.ways import BATCH_VARIABLE
from benchmarks.scoring import warm_up
from engine.errors import EngineError
from engine.tasks import Task

WAVE_SECONDS = 90.0
"""What a start of servers and their measuring takes on an H100."""

OVERHEAD_GIB = 3.5
"""What an engine takes beside weights and cache: the CUDA context, activations, graphs."""


class SpeedStage:
    """Servers and peers on one model, as many at once as the device holds.

    Args:
        variants: How servers are started; the first one is measured on more, if `whole`.
        peers: Names, ways and batch sizes of `benchmarks.peers.ways`.
        pairs_of_peers: How many pairs they get; none: all.
        kv_gib: Memory for keys and values of each server.
    """

    timed = patient = True

    def __init__(
        self,
        bench: Bench,
        name: str,
        variants: Sequence[Variant] = (),
        peers: Sequence[tuple[str, str, dict[str, str]]] = (),
        *,
        estimate_s: float,
        small: bool = False,
        whole: bool = False,
        pairs_of_peers: int | None = None,
        kv_gib: float = 14.0,
    ) -> None:
        self.name = name
        self.estimate_s = estimate_s
        self._bench = bench
        self._whole = whole
        self._pairs_of_peers = pairs_of_peers
        self._folder = bench.out / name
        found = bench.read(name) or {"rows": []}
        # A stage that breaks off goes on with the ways that are missing; one way has several rows.
        self._earlier = [row for row in found["rows"] if "fault" not in row and not whole]
        done = {row["name"] for row in self._earlier}
        variants = [each for each in variants if each.name not in done]
        peers = [each for each in peers if each[0] not in done]
        folder = bench.large()
        self._model = bench.small if small else str(folder)
        dummy = () if small else ("--load-format=dummy",)
        flags = (f"--max-model-len={MAX_MODEL_LEN}", *dummy, *bench.memory(kv_gib))
        weights = 1.0 if small else weight_bytes(folder) / 2**30
        each_gib = weights + kv_gib + OVERHEAD_GIB
        self._at_once = 1 if bench.gib is None else max(1, int((bench.gib - 4) // each_gib))
        # Those that compile at once must not write into one cache.
        slots = [bench.cache(number % self._at_once) for number in range(len(variants))]
        self._servers = [
            Server(
                each.name,
                self._model,
                self._folder,
                (*flags, *each.flags),
                {**slot, **each.environment},
                eager=bench.tiny,
            )
            for slot, each in zip(slots, variants, strict=True)
        ]
        vllm: dict[str, object] = {} if small else {"load_format": "dummy"}
        vllm["enforce_eager"] = bench.tiny
        if bench.gib is not None:
            memory = {"kv_cache_memory_bytes": 4 * 2**30, "gpu_memory_utilization": 0.05}
            vllm |= memory
        self._peers = [
            Peer(n, way, self._folder, vllm, {**bench.cache(n), **extra}) for n, way, extra in peers
        ]
        # Peers hold logits for all rows of a batch instead of a cache.
        self.gib = min(self._at_once, len(variants)) * each_gib + len(peers) * (weights + 8)
        self._work: Work | None = None
        self._more: Future[tuple[list[Task], dict[str, float]]] | None = None

    def begin(self) -> None:
        """Starts the first servers and all peers."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for server in self._servers[: self._at_once]:
            server.start()
        self._work = Work(self._bench, self._model)
        if self._whole:
            self._more = ThreadPoolExecutor(1).submit(self._work.of_users)
        if self._bench.gib is not None:
            self._start_peers()

    def _start_peers(self) -> None:
        for peer in self._peers:
            peer.start(self._peers_pairs())

    def _peers_pairs(self) -> BenchmarkPairs:
        assert self._work is not None
        pairs = self._work.turns[0]
        return pairs.drawn(self._pairs_of_peers or len(pairs.prompts))

    def work(self, note: Note) -> None:
        """Measures servers in turn, then peers; what fails is a row too."""
        for row in self._earlier:
            note(row)
        for first in range(0, len(self._servers), self._at_once):
            wave = self._servers[first : first + self._at_once]
            if first:
                if time.monotonic() + WAVE_SECONDS > self._bench.deadline:
                    raise EngineError(f"no time is left for {wave[0].name} and what follows")
                for server in wave:
                    server.start()
            for server in wave:
                with going_on(note, {"name": server.name}):
                    self._measure(server, note)
            for server in wave:
                server.stop()
        if self._bench.gib is None:
            self._start_peers()
        for peer in self._peers:
            with going_on(note, {"name": peer.name}):
                self._ask(peer, note)
            peer.stop()

    def _measure(self, server: Server, note: Note) -> None:
        assert self._work is not None
        client = server.wait()
        warm_up(client)
        turns = [self._work.fixed(client, turn) for turn in range(TURNS)]
        best = min(turns, key=lambda turn: turn["seconds"])
        seconds = {"start_s": server.seconds, "turns_s": [turn["seconds"] for turn in turns]}
        note({"name": server.name} | best | seconds)
        if self._more is None or server is not self._servers[0]:
            return
        rates = read_rates(self._model, sustained=False)
        note({"name": "matrix products", "flops": rates.best})
        tasks, everything = self._more.result()
        row = self._work.of_tasks(client, tasks, TURNS, gold=True)
        note({"name": f"{server.name}, whole tasks"} | everything | row)
        row = self._work.of_tasks(client, self._work.tasks, TURNS + 1, gold=False)
        pairs = {"name": f"{server.name}, references generated too", "pairs": turns[0]["pairs"]}
        note(pairs | row)

    def _ask(self, peer: Peer, note: Note) -> None:
        answer = peer.measure()
        note({"name": peer.name} | facts(self._peers_pairs()) | {"seconds": answer.seconds})

    def stop(self) -> None:
        """Ends all it has started."""
        for server in self._servers:
            server.stop()
        for peer in self._peers:
            peer.stop()


def batches(*sizes: int) -> list[tuple[str, str, dict[str, str]]]:
    """The padded loop over transformers, by batch size."""
    return [
        (f"transformers, padded batches of {n}", "transformers", {BATCH_VARIABLE: str(n)})
        for n in sizes
    ]
