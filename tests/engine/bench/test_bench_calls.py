"""What a workload asks: always the same, and never twice of one cache."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence

import pytest

from engine.bench.bench_calls import Call, Calls
from engine.bench.synthetic_tasks import synthetic_tasks
from engine.bench.workload import Shape, Workload
from engine.errors import InputError
from engine.prompts import PromptBuilder
from engine.prompts.prompt_config import PromptConfig
from engine.protocol.api import PromptUncertaintyRequest
from engine.protocol.completions import CompletionLogprobsRequest
from engine.protocol.score_config import ScoreConfig
from engine.questions.pair_plan import plan_task
from engine.tasks import Task, digest_tasks
from tests.engine.small_tokenizers import gpt2

CONFIG = ScoreConfig(n_instances=2, n_perturbations=2, max_output_tokens=12)
SHAPE = Shape(prompt_tokens=400, output_tokens=12)


def builder(max_model_len: int = 2048) -> PromptBuilder:
    return PromptBuilder(gpt2(), PromptConfig(), max_model_len)


def made_up(n_tasks: int = 3, seed: int = 0) -> list[Task]:
    return synthetic_tasks(n_tasks, 2, SHAPE, seed, builder())


def workload(tasks: Sequence[Task], **more: object) -> Workload:
    fixed = {
        "name": "logprobs",
        "tasks": "synthetic",
        "n_tasks": len(tasks),
        "digest": digest_tasks(tasks),
        "tokenizer": "t",
        "config": CONFIG,
    }
    return Workload.model_validate(fixed | more)


def calls(kinds: Sequence[str], tasks: list[Task] | None = None, **more: object) -> Calls:
    given = made_up() if tasks is None else tasks
    return Calls(workload(given, **more), given, kinds, builder)


def first(of: Calls, n: int, start: float = 0.0) -> list[Call]:
    return [*itertools.islice(of.of(start=start), n)]


def test_tasks_made_up_are_as_long_as_asked_and_the_same_for_a_seed() -> None:
    tasks = made_up()
    for task in tasks:
        lengths = [len(each.token_ids) for each in plan_task(task, CONFIG, builder()).originals]
        assert lengths[0] == pytest.approx(400, abs=8)
        assert lengths[1] == pytest.approx(400, abs=40)
        ids = builder().completion(task.instances[0].outputs[0])
        assert 2 <= len(ids) <= 12
    assert made_up() == tasks != made_up(seed=1)
    assert len({task.definition[:20] for task in tasks}) == 3


@pytest.mark.parametrize(
    ("shape", "problem"),
    [
        (Shape(prompt_tokens=4_000), "the context leaves room for 2035 tokens"),
        (Shape(prompt_tokens=64), "the layout takes [0-9]+ tokens at least"),
    ],
)
def test_a_length_that_cannot_be_is_refused(shape: Shape, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        synthetic_tasks(1, 1, shape, 0, builder())


def test_pairs_are_gold_outputs_under_every_prompt_neighbours_sharing_a_beginning() -> None:
    found = first(calls(["logprobs"]), 18)
    contents = [call.content[0] for call in found]
    assert len(set(contents)) == 18 == len(found)
    bodies = [call.streamed().request() for call in found]
    asked = CompletionLogprobsRequest.model_validate(json.loads(bodies[0]))
    assert asked.pairs == (contents[0],)
    assert asked.stream
    assert asked.cache_salt == found[0].salt
    for one, other in itertools.pairwise(contents[:2]):
        same = itertools.takewhile(
            lambda both: both[0] == both[1],
            zip(one.prompt_token_ids, other.prompt_token_ids, strict=False),
        )
        assert len([*same]) > 100


def test_a_second_pass_and_a_second_measurement_ask_the_same_of_an_empty_cache() -> None:
    source = calls(["logprobs"])
    one, other = first(source, 40), first(source, 40)
    assert [call.content for call in one] == [call.content for call in other]
    assert one[0].content == one[18].content
    assert len({call.salt for call in one[:18]}) == 1
    assert len({one[0].salt, one[18].salt, one[36].salt, other[0].salt, other[18].salt}) == 5


def test_a_measurement_may_begin_further_on() -> None:
    source = calls(["logprobs"])
    assert first(source, 1, start=0.5)[0].content == first(source, 10)[9].content


def test_requests_of_tasks_hold_the_design_and_only_its_instances() -> None:
    tasks = made_up()
    (both, one, _) = first(calls(["uncertainty"], tasks, per_request=2), 3)
    asked = PromptUncertaintyRequest.model_validate(json.loads(both.streamed().request()))
    assert [task.id for task in asked.tasks] == ["synthetic-0", "synthetic-1"]
    assert (both.n_pairs, one.n_pairs) == (12, 6)
    assert asked.config.measure == "prompt_uncertainty"
    assert asked.cache_salt == both.salt
    (sampled,) = first(calls(["samples"], tasks), 1)
    asked = PromptUncertaintyRequest.model_validate(json.loads(sampled.streamed().request()))
    assert asked.config.measure == "output_disagreement"


def test_kinds_take_turns_and_share_nothing() -> None:
    found = first(calls(["logprobs", "uncertainty", "samples"]), 6)
    assert [call.kind for call in found] == ["logprobs", "uncertainty", "samples"] * 2
    assert len({call.salt for call in found}) == 3


def test_a_pool_without_gold_outputs_has_no_pairs() -> None:
    (task, *_) = made_up()
    asked = task.instances[0].model_copy(update={"outputs": ()})
    bare = task.model_copy(update={"instances": (asked,)})
    with pytest.raises(InputError, match="has no gold output"):
        calls(["logprobs"], [bare])
    with pytest.raises(InputError, match="no task"):
        calls(["uncertainty"], [])


def test_workloads_say_in_what_they_differ() -> None:
    one = workload(made_up())
    assert one.differences(one) == []
    other = one.model_copy(update={"config": CONFIG.model_copy(update={"seed": 3}), "digest": "d"})
    (digest, seed) = one.differences(other)
    assert digest.startswith("digest ")
    assert seed == "seed 0 and 3"
