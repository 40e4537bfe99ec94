"""How scoring flows: bounded, in an order that shares prefixes, and tidy when it ends early."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from contextlib import aclosing

import pytest

from engine.perturb import DropWords, Typos
from engine.prompts import PromptBuilder
from engine.protocol.score_config import SamplingConfig
from engine.questions.scorer import TaskScorer
from engine.tasks import Instance
from tests.engine.examples import make_task
from tests.engine.questions.fake_backend import FakeBackend, random_latency
from tests.engine.questions.in_memory import design, make_tasks, run, score_all, stream

# --- Bounded ----------------------------------------------------------------------------------


@pytest.mark.parametrize("max_in_flight", [1, 3, 16])
def test_never_more_calls_in_flight_than_allowed_and_all_of_them_used(max_in_flight: int) -> None:
    backend = FakeBackend(max_in_flight=max_in_flight, latency=random_latency(3))
    score_all(make_tasks(12), design(n=3, k=6), backend)
    assert backend.peak <= max_in_flight
    stuck = FakeBackend(max_in_flight=max_in_flight, held=lambda name: not name.endswith("j=0"))

    async def scenario() -> None:
        async with aclosing(stream(stuck, make_tasks(12), design(n=3, k=6))) as scores:
            reader = asyncio.ensure_future(anext(scores))
            while stuck.pending < max_in_flight:
                await asyncio.sleep(0.001)
            await asyncio.sleep(0.01)
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
        assert stuck.peak == max_in_flight

    run(scenario)


def test_pairs_with_equal_prefixes_reach_the_engine_together() -> None:
    backend = FakeBackend(max_in_flight=4, latency=random_latency(4))
    score_all(make_tasks(5), design(n=4, k=4), backend)
    perturbed = [name for name in backend.calls if not name.endswith("j=0")]
    prefixes = [(name.split("/")[0], name.split("/")[2]) for name in perturbed]
    changes = sum(one != other for one, other in itertools.pairwise(prefixes))
    assert changes == len(set(prefixes)) - 1, "no prefix comes up again"


def test_pairs_do_not_run_ahead_of_the_samples_of_their_prompts() -> None:
    backend = FakeBackend(max_in_flight=6, held=lambda name: "/sample" in name)
    config = design(n=1, k=9, measure="output_disagreement", sampling=SamplingConfig(n_samples=2))

    async def scenario() -> None:
        async with aclosing(stream(backend, make_tasks(3), config)) as scores:
            reader = asyncio.ensure_future(anext(scores))
            while backend.pending < backend.max_in_flight:
                assert not reader.done()
                await asyncio.sleep(0.001)
            await asyncio.sleep(0.02)
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
        pairs = [name for name in backend.calls if "/sample" not in name]
        # Two samples of each prompt wait in the engine, and no pair is asked for beyond theirs.
        assert [name for name in pairs if "j=0" not in name] == ["t0/i0/j=1", "t0/i0/j=2"]

    run(scenario)


def test_all_calls_of_a_task_go_to_the_same_replica_and_tasks_to_different_ones() -> None:
    backend = FakeBackend(latency=random_latency(2))
    score_all(make_tasks(6), design(), backend)
    assert sorted(backend.groups) == [f"t{index}" for index in range(6)]
    assert all(len(groups) == 1 for groups in backend.groups.values())
    assert len(set.union(*backend.groups.values())) == 6


def test_references_are_generated_while_pairs_are_scored() -> None:
    backend = FakeBackend(max_in_flight=8, held=lambda name: name == "t0/i0/j=1")

    async def scenario() -> None:
        async with aclosing(stream(backend, make_tasks(3), design())) as scores:
            reader = asyncio.ensure_future(anext(scores))
            while "t2/i0/j=3" not in backend.calls:
                assert not reader.done()
                await asyncio.sleep(0.001)
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)

    run(scenario)


def test_a_slow_reader_stops_the_work_instead_of_piling_it_up() -> None:
    backend = FakeBackend(max_in_flight=8)
    config = design(n=2, k=1)
    ahead = backend.max_in_flight // config.n_instances

    async def quiet() -> int:
        """Waits until nothing new is asked; how many tasks were begun until then."""
        seen = -1
        while len(backend.calls) != seen:
            seen = len(backend.calls)
            await asyncio.sleep(0.05)
        return len({name.split("/")[0] for name in backend.calls})

    async def scenario() -> None:
        async with aclosing(stream(backend, make_tasks(100), config)) as scores:
            for read in range(1, 4):
                await anext(scores)
                begun = await quiet()
                # Some wait to be read, as many have their references, and each stage holds one.
                assert begun <= read + 2 * ahead + 2

    run(scenario)


# --- Ending early -----------------------------------------------------------------------------


@pytest.mark.parametrize("held", ["j=0", "j=1"])
def test_a_reader_who_leaves_cancels_everything(held: str) -> None:
    backend = FakeBackend(
        max_in_flight=6, held=lambda name: name.startswith("t2/") and name.endswith(held)
    )

    async def scenario() -> None:
        async with aclosing(stream(backend, make_tasks(10), design())) as scores:
            assert (await anext(scores)).task_id == "t0"
            while not backend.pending:
                await asyncio.sleep(0.001)
        assert backend.pending == 0
        assert backend.cancelled
        asked = len(backend.calls)
        await asyncio.sleep(0.01)
        assert len(backend.calls) == asked, "nothing more is asked"

    run(scenario)


def test_a_cancelled_reader_cancels_everything() -> None:
    backend = FakeBackend(max_in_flight=3, held=lambda name: name.endswith("j=2"))

    async def read() -> None:
        async with aclosing(stream(backend, make_tasks(4), design())) as scores:
            async for _ in scores:
                pytest.fail("every task holds a call that never ends")

    async def scenario() -> None:
        reader = asyncio.create_task(read())
        while backend.pending < backend.max_in_flight:
            await asyncio.sleep(0.001)
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
        assert backend.pending == 0
        assert len(backend.cancelled) == backend.max_in_flight

    run(scenario)


def test_a_scorer_can_be_used_again_after_it_was_left() -> None:
    backend = FakeBackend(max_in_flight=3, held=lambda name: name.endswith("j=2"))
    scorer = TaskScorer(backend, design(), "v1")
    tasks = make_tasks(3)

    async def scenario() -> None:
        for _ in range(3):
            reader = asyncio.ensure_future(anext(aiter(scorer.score(tasks))))
            while backend.pending < 3:
                await asyncio.sleep(0.001)
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
            assert backend.pending == 0
        backend.held = lambda name: False
        scores = [score async for score in scorer.score(tasks)]
        assert [score.task_id for score in scores] == ["t0", "t1", "t2"]

    run(scenario)


class BrokenEngineError(Exception):
    """Something the engine room knows nothing about."""


@pytest.mark.parametrize("call", ["t3/i1/j=0", "t3/i1/j=2"])
def test_an_error_of_the_engine_comes_out_as_it_is_and_ends_the_rest(call: str) -> None:
    raised = BrokenEngineError("lost")

    def fail() -> float:
        raise raised

    # A sibling of the call never ends by itself: it must not outlive the error.
    sibling = call.replace("i1", "i3")
    backend = FakeBackend(max_in_flight=32, faults={call: fail}, held=lambda name: name == sibling)
    config = design(n=4)
    read: list[str] = []

    async def read_all() -> None:
        async for score in stream(backend, make_tasks(30), config):
            read.append(score.task_id)

    async def scenario() -> None:
        with pytest.raises(BrokenEngineError) as caught:
            await read_all()
        assert caught.value is raised
        assert backend.pending == 0
        assert sibling in backend.cancelled

    run(scenario)
    assert read == ["t0", "t1", "t2"], "what was ready before is not lost"
    assert len({name.split("/")[0] for name in backend.calls}) < 30


# --- Each prompt once -------------------------------------------------------------------------


@pytest.mark.parametrize("perturbation", [DropWords(), Typos()])
def test_every_prompt_is_rendered_once(
    perturbation: DropWords | Typos, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of `check` are kept for `score`, and perturbed ones whose length was looked at too."""
    rendered: list[str] = []
    encode = PromptBuilder.encode

    def counted(self: PromptBuilder, texts: Sequence[str]) -> list[tuple[int, ...]]:
        rendered.extend(text for text in texts if "zebra" in text)  # of no earlier test
        return encode(self, texts)

    monkeypatch.setattr(PromptBuilder, "encode", counted)
    config = design(n=2, k=3, perturbation=perturbation)
    instances = tuple(Instance(id=name, input=f"zebra {name}") for name in "ab")
    tasks = [make_task().model_copy(update={"instances": instances})]
    scorer = TaskScorer(FakeBackend(), config, "v1")

    async def scenario() -> None:
        await scorer.check(tasks)
        assert len([score async for score in scorer.score(tasks)]) == 1

    run(scenario)
    assert len(rendered) == config.n_prompts(2)
