"""Samples that follow the reference: the model's distribution, and what is not generated."""

from __future__ import annotations

import asyncio
import itertools
import math
import random
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from engine.errors import EngineError
from engine.protocol.api import Usage
from engine.protocol.score_config import SamplingConfig, ScoreConfig
from engine.questions import draft
from engine.questions.backend import PlannedSample, Sampled, Scored
from engine.questions.draft import Drafted, drafts_of
from engine.questions.pair_plan import Pair
from tests.engine.examples import make_task
from tests.engine.questions.fake_backend import FakeBackend, random_latency
from tests.engine.questions.in_memory import score_all

END, LONGEST, VOCABULARY = 0, 3, 4
PROMPT = (7, 8, 9)


def probabilities(context: tuple[int, ...]) -> list[float]:
    """A distribution over a few tokens that leans on one of them; the end is among them."""
    rng = random.Random(repr(context))
    weights = [rng.random() + 2 * (token == len(context) % VOCABULARY) for token in range(4)]
    return [weight / sum(weights) for weight in weights]


class Chain(FakeBackend):
    """Draws from `probabilities`, whatever it is asked."""

    generated = 0

    async def sample(self, planned: PlannedSample, group: int) -> Sampled:
        rng = random.Random(planned.seed)
        output: list[int] = []
        while len(output) < planned.max_tokens and END not in output:
            weights = probabilities((*planned.prompt, *output))
            if planned.banned is not None:
                assert planned.max_tokens == 1
                weights[planned.banned] = 0.0
            output += rng.choices(range(VOCABULARY), weights)
        self.generated += len(output)
        ended = "stop" if output[-1] == END else "length"
        return Sampled(tuple(output), ended, len(planned.prompt), 1)


def logprobs(output: tuple[int, ...]) -> tuple[float, ...]:
    return tuple(
        math.log(probabilities((*PROMPT, *output[:place]))[token])
        for place, token in enumerate(output)
    )


def planned(seed: int, **changes: Any) -> PlannedSample:
    sample = PlannedSample("t", "i", 1, seed, PROMPT, seed, 1.0, 1.0, LONGEST, END)
    return replace(sample, **changes)


def pair(output: tuple[int, ...]) -> Pair:
    return Pair("t", "i", 1, PROMPT, output)


async def follow(
    samples: list[PlannedSample], output: tuple[int, ...], backend: FakeBackend
) -> list[tuple[Sampled, Usage]]:
    async def score() -> tuple[Scored, Usage]:
        return Scored(logprobs(output), 0, 0, rescored=False), Usage()

    scored = asyncio.ensure_future(score())
    drafted = drafts_of(samples, [pair(output)])
    assert all(drafted)
    return [await one.follow(scored, backend, 0) for one in drafted if one]


def likely_output() -> tuple[int, ...]:
    output: tuple[int, ...] = ()
    while len(output) < LONGEST and END not in output:
        weights = probabilities((*PROMPT, *output))
        output += (weights.index(max(weights)),)
    return output


def everything() -> dict[tuple[int, ...], float]:
    """All outputs and their probabilities."""
    found = {}
    for tokens in itertools.product(range(VOCABULARY), repeat=LONGEST):
        output = tokens[: tokens.index(END) + 1] if END in tokens else tokens
        found[output] = math.exp(sum(logprobs(output)))
    assert sum(found.values()) == pytest.approx(1)
    return found


@pytest.mark.parametrize("output", [likely_output(), (3, 2, 1), (END,), (1, END)])
def test_frequencies_are_those_of_the_model(
    output: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(draft, "WORTH", 0.0)
    n, backend = 4_000, Chain()
    found = asyncio.run(follow([planned(seed) for seed in range(n)], output, backend))
    counts = Counter(sampled.token_ids for sampled, _ in found)
    expected = everything()
    assert counts.keys() <= expected.keys()
    chi_squared = sum((counts[each] - n * p) ** 2 / (n * p) for each, p in expected.items())
    freedom = len(expected) - 1
    assert chi_squared < freedom + 4 * math.sqrt(2 * freedom)
    # As many as a model's own samples have, less those that were followed.
    assert backend.generated == sum(usage.tokens_sampled for _, usage in found)
    followed = sum(len(sampled.token_ids) for sampled, _ in found) - backend.generated
    shared = itertools.accumulate(logprobs(output))
    assert followed / n == pytest.approx(sum(map(math.exp, shared)), rel=0.06, abs=0.01)
    for sampled, usage in found:
        assert (sampled.finish_reason == "stop") == (sampled.token_ids[-1] == END)
        assert usage.samples == 1
        assert usage.tokens_reusable == usage.tokens_submitted == sampled.n_submitted


def test_unlikely_drafts_are_not_tried_whatever_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draft, "WORTH", 2.0)
    backend = Chain()
    (direct,) = [asyncio.run(backend.sample(planned(5), 0))]
    ((sampled, usage),) = asyncio.run(follow([planned(5)], (3, 3, 3), backend))
    assert sampled == direct
    assert usage.tokens_reusable == len(PROMPT)


@pytest.mark.parametrize(
    "changes",
    [
        {"temperature": 0.7},
        {"top_p": 0.9},
        {"prompt": (1, 2)},
        {"instance_id": "another"},
        {"perturbation": 0},
        {"max_tokens": 2},
        {"max_tokens": 9},
        {"end": 2},
    ],
)
def test_only_what_the_pair_tells_of_is_drafted(changes: dict[str, Any]) -> None:
    output = (1, 2, 1)
    assert drafts_of([planned(0)], [pair(output)])[0] is not None
    assert drafts_of([planned(0, **changes)], [pair(output)]) == [None]


def test_greedy_samples_begin_where_the_answers_part() -> None:
    greedy = planned(0, temperature=0.0, top_p=0.5)
    one = Drafted(greedy, pair((1, 2, 3)), 0)

    def shared(is_greedy: tuple[bool, ...] | None) -> int | None:
        return one.followed(Scored((-9.0,) * 3, 0, 0, rescored=False, is_greedy=is_greedy))

    assert shared((True, True, False)) == 2
    assert shared((True, False, True)) == 1
    assert shared((True, True, True)) == 3
    assert shared((False, True, True)) is None
    assert shared(None) is None


def design(m: int = 3, temperature: float = 1.0, **more: Any) -> ScoreConfig:
    sampling = SamplingConfig(n_samples=m, temperature=temperature)
    return ScoreConfig(
        n_instances=2,
        n_perturbations=3,
        max_output_tokens=8,
        measure="output_disagreement",
        sampling=sampling,
        **more,
    )


def test_scoring_asks_for_what_the_references_do_not_give(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draft, "WORTH", 0.0)
    task, scores = make_task(n_instances=2), []
    for latency in (1, 2):
        backend = FakeBackend(continues=True, max_in_flight=3, latency=random_latency(latency))
        scores += score_all([task], design(), backend)
        assert backend.peak <= 3
        for name in backend.drawn:
            of_prompt = name.partition("/sample")[0]
            if "j=0" not in name:
                assert backend.calls.index(of_prompt) < backend.calls.index(name)
    assert scores[0] == scores[1]
    rows = scores[0].answers["output_disagreement"].rows
    assert len(rows) == scores[0].usage.samples == 2 * 4 * 3
    plain = FakeBackend()
    (same,) = score_all([task], design(), plain)
    assert scores[0].pairs == same.pairs
    assert scores[0].usage.tokens_sampled != same.usage.tokens_sampled
    gold = [FakeBackend(continues=each) for each in (True, False)]
    both = [score_all([task], design(reference="gold"), each) for each in gold]
    assert both[0] == both[1]


def test_a_pair_that_fails_fails_its_samples() -> None:
    backend = FakeBackend(continues=True, faults={"colors/i1/j=2": lambda: None})
    with pytest.raises(EngineError, match="colors/i1/j=2"):
        score_all([make_task(n_instances=2)], design(), backend)
    assert backend.pending == 0
