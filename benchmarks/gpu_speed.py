"""Stages of `benchmarks.gpu` that measure pairs per second, of servers of ours and of peers."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.contenders import Peer, Server
from benchmarks.floor import floor_flops, read_rates
from benchmarks.gpu_stage import MAX_MODEL_LEN, Bench, Note, going_on
from benchmarks.pairs import BenchmarkPairs, all_pairs, gold_outputs, sample_tasks
from benchmarks.random_model import weight_bytes
from benchmarks.scoring import warm_up
from benchmarks.ways import BATCH_VARIABLE
from engine.client import EngineClient
from engine.errors import EngineError
from engine.protocol.api import Usage
from engine.protocol.completions import TokenPair
from engine.protocol.score_config import ScoreConfig
from engine.questions.pair_plan import reusable_tokens
from engine.tasks import Task

DESIGN = ScoreConfig(reference="gold")
"""The paper's: 10 instances, 10 perturbations."""

TASKS, ALL_TASKS = 15, 88
"""1,650 pairs for all ways; 9,680 for the way of a user."""

WAVE_SECONDS = 90.0
"""What a start of servers and their measuring takes on an H100."""

TURNS = 2
"""How often each server is asked, each time about other pairs of the same tasks."""

OVERHEAD_GIB = 3.5
"""What an engine takes beside weights and cache: the CUDA context, activations, graphs."""


@dataclass(frozen=True)
class Variant:
    """A way to start a server of ours.

    Attributes:
        name: What the table calls it.
        flags: Flags of vLLM.
        environment: Environment variables.
    """

    name: str
    flags: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)


class Work:
    """The pairs of a model, and what measuring them gives."""

    def __init__(self, bench: Bench, model: str) -> None:
        self.bench = bench
        self.model = model
        small = {"n_instances": 2, "n_perturbations": 2}
        self.design = DESIGN.model_copy(update=small if bench.tiny else {})
        self._builder = bench.builder(model)
        self.tasks = sample_tasks(bench.few(TASKS), self.design, 0, self._builder, bench.tasks)
        self.turns = [self.expand(self.tasks, turn) for turn in range(TURNS)]
        self.facts = [facts(pairs) for pairs in self.turns]

    def all_tasks(self) -> list[Task]:
        """As many tasks as there are."""
        n = 2 if self.bench.tiny else ALL_TASKS
        return sample_tasks(n, self.design, 0, self._builder, self.bench.tasks)

    def seeded(self, seed: int) -> ScoreConfig:
        """The design with other instances and perturbations: no cache holds more than a tenth."""
        return self.design.model_copy(update={"seed": seed})

    def expand(self, tasks: list[Task], seed: int) -> BenchmarkPairs:
        """All pairs of some tasks."""
        design = self.seeded(seed)
        outputs = gold_outputs(tasks, design, self._builder)
        return all_pairs(tasks, outputs, design, self._builder, self.model)

    def fixed(self, client: EngineClient, turn: int) -> dict[str, float]:
        """The pairs of a turn as token ids in one request."""
        pairs = self.turns[turn]
        body = [
            TokenPair(prompt_token_ids=tuple(prompt), completion_token_ids=tuple(output))
            for prompt, output in zip(pairs.prompts, pairs.outputs, strict=True)
        ]
        started = time.perf_counter()
        usage = client.completion_logprobs(body).usage
        return self.facts[turn] | _spent(time.perf_counter() - started, usage)

    def of_tasks(
        self, client: EngineClient, tasks: list[Task], seed: int, *, gold: bool
    ) -> dict[str, float]:
        """The tasks as a user sends them."""
        reference = "gold" if gold else "generated"
        config = self.seeded(seed).model_copy(update={"reference": reference})
        started = time.perf_counter()
        scores = list(client.score(tasks, config))
        seconds = time.perf_counter() - started
        return _spent(seconds, sum((score.usage for score in scores), Usage()))


def facts(pairs: BenchmarkPairs) -> dict[str, float]:
    """What is known of pairs before anything is measured."""
    sequences = [tuple(p + o[:-1]) for p, o in zip(pairs.prompts, pairs.outputs, strict=True)]
    unique = sum(map(len, sequences)) - reusable_tokens(sequences)
    return {
        "pairs": len(sequences),
        "floor_flops": floor_flops(pairs),
        "tokens_unique": unique,
    }


def _spent(seconds: float, usage: Usage) -> dict[str, float]:
    return {
        "seconds": seconds,
        "tokens_submitted": usage.tokens_submitted,
        "tokens_computed": usage.tokens_computed,
        "tokens_generated": usage.tokens_generated,
        "pairs_rescored": usage.pairs_rescored,
    }


class SpeedStage:
    """Servers and peers on one model, as many at once as the device holds.

    Args:
        variants: How servers are started; the first one is measured on more, if `whole`.
        peers: Names, ways and batch sizes of `benchmarks.ways`.
        pairs_of_peers: How many pairs they get; none: all.
        kv_gib: Memory for keys and values of each server.
    """

    timed = True

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
        kv_gib: float = 16.0,
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
        self._servers = [
            Server(
                each.name,
                self._model,
                self._folder,
                (*flags, *each.flags),
                each.environment,
                eager=bench.tiny,
            )
            for each in variants
        ]
        vllm: dict[str, object] = {} if small else {"load_format": "dummy"}
        vllm["enforce_eager"] = bench.tiny
        if bench.gib is not None:
            memory = {"kv_cache_memory_bytes": 4 * 2**30, "gpu_memory_utilization": 0.05}
            vllm |= memory
        self._peers = [Peer(n, way, self._folder, vllm, extra) for n, way, extra in peers]
        weights = 1.0 if small else weight_bytes(folder) / 2**30
        self._each = weights + kv_gib + OVERHEAD_GIB
        self._at_once = 1 if bench.gib is None else max(1, int((bench.gib - 4) // self._each))
        # Peers hold logits for all rows of a batch instead of a cache.
        self.gib = min(self._at_once, len(variants)) * self._each + len(peers) * (weights + 8)
        self._work: Work | None = None

    def begin(self) -> None:
        """Starts the first servers and all peers."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for server in self._servers[: self._at_once]:
            server.start()
        self._work = Work(self._bench, self._model)
        if self._bench.gib is not None:
            self._start_peers()

    def _start_peers(self) -> None:
        assert self._work is not None
        pairs = self._work.turns[0]
        pairs = pairs.first(self._pairs_of_peers or len(pairs.prompts))
        for peer in self._peers:
            peer.start(pairs)

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
        more = self._whole and server is self._servers[0]
        if more:  # while it starts
            tasks = self._work.all_tasks()
            everything = facts(self._work.expand(tasks, TURNS))
        client = server.wait()
        warm_up(client)
        turns = [self._work.fixed(client, turn) for turn in range(TURNS)]
        best = min(turns, key=lambda turn: turn["seconds"])
        seconds = {"start_s": server.seconds, "turns_s": [turn["seconds"] for turn in turns]}
        note({"name": server.name} | best | seconds)
        if not more:
            return
        rates = read_rates(self._model, sustained=False)
        note({"name": "matrix products", "flops": rates.best})
        row = self._work.of_tasks(client, tasks, TURNS, gold=True)
        note({"name": f"{server.name}, whole tasks"} | everything | row)
        row = self._work.of_tasks(client, self._work.tasks, TURNS + 1, gold=False)
        same = facts(self._work.expand(self._work.tasks, TURNS + 1))
        note({"name": f"{server.name}, references generated too"} | same | row)

    def _ask(self, peer: Peer, note: Note) -> None:
        assert self._work is not None
        answer = peer.measure()
        pairs = self._work.turns[0].first(len(answer.logprobs))
        note({"name": peer.name} | facts(pairs) | {"seconds": answer.seconds})

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
