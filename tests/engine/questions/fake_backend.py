"""An engine in memory: answers follow from the token ids alone, latency from a seed."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from engine.questions.backend import Generated, PlannedSample, Sampled, Scored, checked_logprobs
from tests.engine.small_tokenizers import gpt2

LIKELIEST = -2.0
"""Above it, no other token is likelier."""

Latency = Callable[[], int]
"""How many rounds of the event loop a call takes."""


def at_once() -> int:
    return 0


def random_latency(seed: int, most: int = 12) -> Latency:
    rng = random.Random(seed)
    return lambda: rng.randrange(most)


def token_logprob(context: tuple[int, ...], token: int) -> float:
    """In [-4, 0); the same for the same ids, whoever asks."""
    digest = hashlib.sha256(repr((context, token)).encode()).digest()
    return -4 * (1 + int.from_bytes(digest[:6], "big")) / 2**48


def output_logprobs(prompt: tuple[int, ...], output: tuple[int, ...]) -> tuple[float, ...]:
    return tuple(
        token_logprob(prompt + output[:index], token) for index, token in enumerate(output)
    )


def greedy_output(prompt: tuple[int, ...], max_tokens: int, eos: int) -> tuple[int, ...]:
    """One to five tokens, the last of them the end of sequence unless it was cut."""
    digest = hashlib.sha256(repr(prompt).encode()).digest()
    wanted = (*(byte % 50 + 1 for byte in digest[: digest[-1] % 5]), eos)
    return wanted[:max_tokens]


@dataclass
class FakeBackend:
    """Implements `engine.questions.backend.PairBackend` and writes down what it was asked.

    Attributes:
        faults: Calls by name that do something else; `generate` and `score` names are those of the
            pairs, generation being j=0.
        held: Names of calls that never end by themselves.
        calls: Names in the order of arrival.
        pending: Calls that have begun and not ended.
        peak: Most calls that were ever pending.
        cancelled: Names of the calls that were cancelled.
        n_groups: Groups given out.
        groups: The groups of a task's calls, by the task's id.
        precision: What it says that it computes in.
        noise: How far a second reading moves each log-probability, at most.
        drawn: What was sampled, by name.
        continued: Pairs that were said to have samples.
    """

    max_in_flight: int = 8
    latency: Latency = at_once
    max_model_len: int = 4096
    tokenizer: Any = field(default_factory=gpt2)
    faults: dict[str, Callable[[], Any]] = field(default_factory=dict)
    held: Callable[[str], bool] = lambda name: False
    calls: list[str] = field(default_factory=list)
    pending: int = 0
    peak: int = 0
    cancelled: list[str] = field(default_factory=list)
    n_groups: int = 0
    groups: defaultdict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    drawn: dict[str, PlannedSample] = field(default_factory=dict)
    continued: set[str] = field(default_factory=set)
    precision: str = "float32"
    noise: float = 0.0
    tells_candidates: bool = True

    def new_group(self) -> int:
        self.n_groups += 1
        return self.n_groups

    async def generate(
        self, prompt: tuple[int, ...], max_tokens: int, end: int, name: str, group: int
    ) -> Generated:
        self.groups[name.partition("/")[0]].add(group)
        output = greedy_output(prompt, max_tokens, end)
        logprobs = await self._answer(f"{name}/j=0", prompt, output)
        return Generated(
            token_ids=output,
            token_logprobs=logprobs,
            finish_reason="stop" if output[-1] == end else "length",
            n_submitted=len(prompt),
            n_reused=0,
        )

    async def score(
        self,
        prompt: tuple[int, ...],
        output: tuple[int, ...],
        name: str,
        group: int,
        *,
        again: bool = False,
        continued: bool = False,
    ) -> Scored:
        self.groups[name.partition("/")[0]].add(group)
        if continued:
            self.continued.add(name)
        logprobs = await self._answer(name, prompt, output)
        if again:
            logprobs = tuple(each + self.noise * token_logprob(prompt, 0) for each in logprobs)
        is_greedy = tuple(value > LIKELIEST for value in logprobs)
        return Scored(logprobs, len(prompt) + len(output), 1, rescored=False, is_greedy=is_greedy)

    async def candidates(
        self, before: tuple[int, ...], ids: tuple[int, ...], name: str, group: int
    ) -> Scored:
        values = tuple(token_logprob(before, token) for token in ids)
        return Scored(values, len(before), n_reused=0, rescored=False)

    async def sample(self, planned: PlannedSample, group: int) -> Sampled:
        max_tokens, end = planned.max_tokens, planned.end
        self.groups[planned.task_id].add(group)
        if planned.temperature == 0:
            output = greedy_output(planned.prompt, max_tokens, end)
        else:
            output = greedy_output((*planned.prompt, planned.seed % 7), max_tokens, end)
        self.drawn[planned.name] = planned
        await self._answer(planned.name, planned.prompt, output)
        ended = "stop" if output[-1] == end else "length"
        return Sampled(output, ended, n_submitted=len(planned.prompt), n_reused=2)

    async def _answer(
        self, name: str, prompt: tuple[int, ...], output: tuple[int, ...]
    ) -> tuple[float, ...]:
        self.calls.append(name)
        self.pending += 1
        self.peak = max(self.peak, self.pending)
        try:
            if self.held(name):
                await asyncio.Event().wait()
            for _ in range(self.latency()):
                await asyncio.sleep(0)
            logprobs: list[float | None] = list(output_logprobs(prompt, output))
            if name in self.faults:
                logprobs[-1] = self.faults[name]()
            return checked_logprobs(logprobs, name)
        except asyncio.CancelledError:
            self.cancelled.append(name)
            raise
        finally:
            self.pending -= 1
