"""What is promised on a GPU, in its usual precision, on one engine: `pytest -m gpu`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from engine.client import EngineClient
from engine.errors import EngineError
from engine.pools.bundled import training_pool
from engine.process.engine_process import EngineProcess
from engine.prompts import PromptBuilder
from engine.protocol.completions import TokenPair
from engine.protocol.score_config import ScoreConfig
from engine.questions.pair_plan import plan_pairs, plan_task
from engine.weights.manifest import MANIFEST_NAME, read_manifest
from tests.integration.reference import Reference, published_change

pytestmark = [pytest.mark.gpu, pytest.mark.integration]

CONFIG = ScoreConfig(n_instances=3, n_perturbations=3, reference="gold")

MEAN = 0.15
"""Nats a token that rounding to bfloat16 may account for (`engine.server.vllm.rounding`)."""


@pytest.fixture(scope="module")
def cuda(
    model_folder: Path, weights_root: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[EngineClient]:
    """A client of an engine as `jostle serve` starts it on a GPU; it can sleep."""
    log_file = tmp_path_factory.mktemp("cuda") / "engine.log"
    with EngineProcess.start(
        str(model_folder),
        weights_root=weights_root,
        log_file=log_file,
        extra_args=["--enable-sleep-mode", "--gpu-memory-utilization=0.5"],
    ) as process:
        process.wait_ready(600)
        with EngineClient(process.url) as client:
            yield client


@pytest.fixture(scope="module")
def pairs(base: Reference) -> list[TokenPair]:
    builder = PromptBuilder(base.tokenizer, CONFIG.prompt, 2048)
    found = []
    for task in list(training_pool())[:2]:
        plan = plan_task(task, CONFIG, builder)
        outputs = [builder.completion(instance.outputs[0]) for instance in plan.instances]
        found += [
            TokenPair(prompt_token_ids=pair.prompt, completion_token_ids=pair.output)
            for pair in plan_pairs(plan, outputs, CONFIG, builder)
        ]
    return found


def distance(client: EngineClient, pairs: list[TokenPair], model: Reference) -> float:
    """Mean difference of the tokens' log-probabilities from a model in float32."""
    results = client.completion_logprobs(pairs, tokens=True).results
    return float(
        np.mean(
            [
                abs(one - other)
                for pair, result in zip(pairs, results, strict=True)
                for one, other in zip(
                    result.token_logprobs or (),
                    model.token_logprobs(pair.prompt_token_ids, pair.completion_token_ids),
                    strict=True,
                )
            ]
        )
    )


def test_scores_are_those_of_transformers_and_no_pair_is_computed_twice(
    cuda: EngineClient, base: Reference, pairs: list[TokenPair]
) -> None:
    assert distance(cuda, pairs, base) < MEAN
    first, second = cuda.completion_logprobs(pairs), cuda.completion_logprobs(pairs)
    assert (first.usage.pairs_rescored, second.usage.pairs_rescored) == (0, 0)
    assert second.usage.tokens_computed < first.usage.tokens_submitted / 4
    for one, other in zip(first.results, second.results, strict=True):
        assert one.mean_logprob == pytest.approx(other.mean_logprob, abs=0.5)


def test_loads_are_judged_by_what_is_live_afterwards(
    cuda: EngineClient, base: Reference, pairs: list[TokenPair], weights_root: Path
) -> None:
    checkpoint, manifest, changed = published_change(base, weights_root, 61)
    stale, same, _ = published_change(base, weights_root, 62, scale=0.0)
    lie = read_manifest(stale).model_copy(update={"probes": manifest.probes})
    (stale / MANIFEST_NAME).write_text(lie.model_dump_json())
    with pytest.raises(EngineError, match="differ"):
        cuda.load_weights(stale, same.version)
    assert cuda.weights().is_base
    cuda.load_weights(checkpoint, manifest.version)
    assert distance(cuda, pairs, changed) < MEAN < distance(cuda, pairs, base)


def test_weights_come_back_from_a_sleep(
    cuda: EngineClient, base: Reference, pairs: list[TokenPair], weights_root: Path
) -> None:
    checkpoint, manifest, changed = published_change(base, weights_root, 63)
    cuda.load_weights(checkpoint, manifest.version)
    cuda.release_weights()
    assert cuda.restore_weights().version == manifest.version
    assert distance(cuda, pairs, changed) < MEAN
