"""The reference output as a draft of a sample: what the sample shares with it is not generated.

A sample follows its draft token by token, each with the probability that the model gives it, which
is known from the pair; at the first that it does not follow, it draws another token from the
model's distribution without that one, and goes on freely. Its distribution is that of the model:
rejection sampling of speculative decoding (Leviathan et al., 2023, arXiv 2211.17192) for a draft
that is certain of itself. At temperature 0 it follows as long as each token is a likeliest one.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import operator
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from engine.protocol.api import Usage
from engine.questions.backend import Backend, PlannedSample, Sampled, Scored
from engine.questions.pair_plan import Pair

WORTH = 0.5
"""Tokens that samples must be expected to follow, or the second request costs more than it saves.
Known before anything is drawn, so it prefers no output."""


@dataclass(frozen=True, slots=True)
class Drafted:
    """A sample and the pair of the same prompt, whose output is its draft.

    Attributes:
        planned: The sample.
        pair: The pair; scored under the same weights.
        at: Its place among the pairs of the task.
    """

    planned: PlannedSample
    pair: Pair
    at: int

    def followed(self, scored: Scored) -> int | None:
        """Tokens of the draft that the sample shares; None where trying is not worth it.

        Args:
            scored: The answer to the pair.
        """
        if self.planned.temperature == 0:
            greedy = scored.is_greedy or (False,)
            return sum(1 for _ in itertools.takewhile(bool, greedy)) or None
        probabilities = [math.exp(each) for each in scored.token_logprobs]
        if sum(itertools.accumulate(probabilities, operator.mul)) < WORTH:
            return None
        rng = random.Random(self.planned.seed)
        return sum(1 for _ in itertools.takewhile(lambda p: rng.random() < p, probabilities))

    async def follow(
        self,
        asked: asyncio.Task[tuple[Scored, Usage]],
        backend: Backend,
        group: int,
    ) -> tuple[Sampled, Usage]:
        """The output and what it cost; the engine is asked from the first other token on.

        Args:
            asked: The pair, which the engine has been asked for.
        """
        await asyncio.wait([asked])
        shared = self.followed(asked.result()[0])
        if shared is None:
            sampled, usage = await self.planned.ask(backend, group)
            return sampled, _all_reusable(usage)
        output = self.pair.output[:shared]
        if output == self.pair.output:
            ended = "stop" if output[-1] == self.planned.end else "length"
            return Sampled(output, ended, n_submitted=0, n_reused=0), Usage(samples=1)
        return await self._continue(output, backend, group)

    async def _continue(
        self, output: tuple[int, ...], backend: Backend, group: int
    ) -> tuple[Sampled, Usage]:
        """From the first token that is not the draft's."""
        planned, cost = self.planned, Usage(samples=1)
        left = planned.max_tokens - len(output)
        steps: list[tuple[int, int | None]] = [(left, None)]
        if planned.temperature > 0:
            steps = [(1, self.pair.output[len(output)]), (left - 1, None)]
        seeds = random.Random(planned.seed ^ 1)
        ended = "length"
        for longest, banned in steps:
            if longest == 0 or ended == "stop":
                break
            rest = replace(
                planned,
                prompt=planned.prompt + output,
                max_tokens=longest,
                banned=banned,
                seed=seeds.getrandbits(63),
            )
            sampled, usage = await rest.ask(backend, group)
            cost += _all_reusable(usage).model_copy(update={"samples": 0})
            output, ended = output + sampled.token_ids, sampled.finish_reason
        return Sampled(output, ended, cost.tokens_submitted, cost.tokens_reused), cost


def _all_reusable(usage: Usage) -> Usage:
    """What a sample submits has been submitted before, by its pair."""
    return usage.model_copy(update={"tokens_reusable": usage.tokens_submitted})


def drafts_of(calls: Sequence[Pair | PlannedSample], pairs: Sequence[Pair]) -> list[Drafted | None]:
    """How each call is drawn from a draft; None if it is no sample, or no pair tells of it.

    Args:
        pairs: Those of the same task, with outputs of the model's own.
    """
    places = {(pair.instance_id, pair.perturbation): place for place, pair in enumerate(pairs)}
    found: list[Drafted | None] = []
    for call in calls:
        at = places.get((call.instance_id, call.perturbation), -1)
        drafted = None
        if isinstance(call, PlannedSample) and at >= 0 and _tells(pairs[at], call):
            drafted = Drafted(call, pairs[at], at)
        found.append(drafted)
    return found


def _tells(pair: Pair, planned: PlannedSample) -> bool:
    """Whether the tokens of the pair have the probabilities with which the sample draws them."""
    output, longest = pair.output, planned.max_tokens
    whole = len(output) == longest or (output[-1] == planned.end and len(output) < longest)
    from_all = planned.temperature == 0 or planned.temperature == planned.top_p == 1
    goes_on = planned.end not in output[:-1]
    return whole and goes_on and from_all and pair.prompt == planned.prompt
