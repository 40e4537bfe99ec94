"""All measurements of a bench: loads and ways by turns, so that an hour's drift is in all alike."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from engine.bench.bench_calls import STOCK, Calls
from engine.bench.bench_result import Reading
from engine.bench.figures import Figures
from engine.bench.load_client import LoadClient, TimedCall, now
from engine.bench.load_phase import OnTime, Phase, run_phases
from engine.bench.workload import Load, Timing, WorkloadName
from engine.errors import EngineError
from engine.protocol.completions import TokenPair

KINDS: dict[WorkloadName, tuple[str, ...]] = {
    "logprobs": ("logprobs",),
    "uncertainty": ("uncertainty",),
    "samples": ("samples",),
    "mixed": ("logprobs", "uncertainty", "samples"),
    "reload": ("logprobs",),
}
"""The kinds of requests of each workload, which take turns."""

_AGREEING = 16  # pairs that both routes are asked before anything is measured


@dataclass(frozen=True)
class Reloads:
    """Loads of weights beside the requests.

    Attributes:
        checkpoints: Folders and versions, made live one after the other, again and again.
        every: Seconds between two loads.
    """

    checkpoints: tuple[tuple[Path, str], ...]
    every: float


class BenchTurns:
    """Takes all readings.

    Args:
        ways: Kinds of requests that are measured together; several such measurements take turns.
        seed: Of random times.
        in_a_row: Whether the repeats of a load follow each other without a pause, so that only the
            first of them is warmed up for: for requests that take long. Of no effect on a number
            of pairs.
        on_phase: Called at the beginning of every measurement with what it is.
        on_time: Called now and then with the seconds since its beginning, and those it will take
            in all, if that can be told yet.
    """

    def __init__(
        self,
        client: LoadClient,
        calls: Calls,
        ways: Sequence[Sequence[str]],
        loads: Sequence[Load],
        timing: Timing,
        *,
        seed: int = 0,
        in_a_row: bool = False,
        reloads: Reloads | None = None,
        on_phase: Callable[[str], None] = lambda title: None,
        on_time: OnTime = lambda seconds, expected: None,
    ) -> None:
        self._client = client
        self._calls = calls
        self._ways = ways
        self._loads = loads
        self._timing = timing
        self._seed = seed
        self._n_windows = timing.repeats if in_a_row and not timing.pairs else 1
        self._reloads = reloads
        self._on_phase = on_phase
        self._on_time = on_time

    async def take(self) -> list[Reading]:
        """All readings.

        Raises:
            InputError: If the server finds fault with a request.
            EngineError: If it fails at all requests of a measurement.
        """
        timing = self._timing
        if timing.warm_up:
            self._on_phase("warm up")
            short = Timing(seconds=timing.warm_up, warm_up=0, repeats=1)
            for kinds in self._ways:
                await self._phase(kinds, Load(concurrency=1), short, repeat=0)
        readings: list[Reading] = []
        for repeat in range(0, timing.repeats, self._n_windows):
            for load in self._loads:
                ways = self._ways if repeat % 2 == 0 else self._ways[::-1]
                for kinds in ways:
                    several = timing.repeats > self._n_windows
                    of = f" ({repeat + 1} of {timing.repeats})" if several else ""
                    self._on_phase(f"{', '.join(kinds)}, {load}{of}")
                    readings += await self._phase(kinds, load, timing, repeat=repeat)
        return readings

    async def _phase(
        self, kinds: Sequence[str], load: Load, timing: Timing, *, repeat: int
    ) -> list[Reading]:
        before = await self._client.step_seconds()
        opened = asyncio.Event()
        measured = timing is self._timing
        running = run_phases(
            self._calls.of(kinds, start=repeat / timing.repeats),
            self._client.send,
            load,
            timing,
            n_windows=self._n_windows if measured else 1,
            seed=self._seed + repeat,
            on_time=self._on_time,
            on_open=opened.set,
        )
        if self._reloads and measured:
            phases = await self._reloading(self._reloads, running, opened)
        else:
            phases = await running
        after = await self._client.step_seconds()
        failed = [call.error for call in phases[0].calls if call.error is not None]
        if failed and len(failed) == len(phases[0].calls):
            raise EngineError(f"every request failed, the first one so: {failed[0]}")
        return [
            Reading(
                way=way,
                load=load,
                repeat=repeat + window,
                seconds=phase.seconds,
                figures=Figures.of([call for call in phase.calls if call.kind == way], phase),
                client_cpu=phase.cpu_seconds / phase.seconds,
                steps=_shares(before, after),
            )
            for window, phase in enumerate(phases)
            for way in dict.fromkeys(call.kind for call in phase.calls)
        ]

    async def _reloading(
        self, reloads: Reloads, running: Coroutine[Any, Any, list[Phase]], opened: asyncio.Event
    ) -> list[Phase]:
        """A measurement with loads beside it, the first of them as its window opens."""
        over = asyncio.Event()
        loads: list[TimedCall] = []

        async def load_again_and_again() -> None:
            await opened.wait()
            for checkpoint in itertools.cycle(reloads.checkpoints):
                if over.is_set():
                    return
                loads.append(await self._client.load(checkpoint, now()))
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(over.wait(), reloads.every)

        async def measure() -> list[Phase]:
            try:
                return await running
            finally:
                over.set()
                opened.set()

        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(load_again_and_again())
                measured = group.create_task(measure())
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from errors
        return [replace(phase, calls=(*phase.calls, *loads)) for phase in measured.result()]


async def agreement(client: LoadClient, calls: Calls) -> float:
    """Largest difference between a pair's probabilities by our route and by vLLM's own.

    Raises:
        EngineError: If the server fails.
    """
    pairs: list[TokenPair] = []
    for call in calls.of((STOCK,)):
        pairs += call.content
        if len(pairs) >= _AGREEING:
            break
    sums, _ = await client.stock_logprobs(pairs, call.salt)
    ours = await client.completion_logprobs(pairs)
    return max(
        abs(math.exp(theirs / own.n_tokens) - math.exp(own.mean_logprob))
        for theirs, own in zip(sums, ours.results, strict=True)
    )


def _shares(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    spent = {part: value - before.get(part, 0.0) for part, value in after.items()}
    whole = sum(spent.values())
    return {part: value / whole for part, value in spent.items()} if whole > 0 else {}
