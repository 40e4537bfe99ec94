"""Scores of packs, against those of padded batches."""

from __future__ import annotations

import asyncio

import pytest

from benchmarks.evidence.pack_scoring import score_tasks
from benchmarks.peers.padded_backend import PaddedBackend
from engine.measures.compute import compute_measures
from engine.prompts import PromptBuilder
from engine.protocol.api import TaskScore
from engine.protocol.score_config import ScoreConfig
from engine.questions.scorer import TaskScorer
from tests.training.fakes import make_task
from tests.training.tiny import make_tiny_model, make_tokenizer


@pytest.mark.parametrize("reference", ["generated", "gold"])
def test_scores_are_those_of_the_scorer(reference: str) -> None:
    tokenizer = make_tokenizer()
    model = make_tiny_model(tied=True, tokenizer=tokenizer, initializer_range=0.3).eval()
    config = ScoreConfig(n_instances=3, n_perturbations=4, max_output_tokens=5, reference=reference)
    backend = PaddedBackend(model, tokenizer, 256, "float32", "sdpa")
    task = make_task("t", "say reverse color of word")

    async def scored() -> TaskScore:
        scorer = TaskScorer(backend, config, "base")
        (found,) = [each async for each in scorer.score([task])]
        assert isinstance(found, TaskScore)
        return found

    expected = asyncio.run(scored())
    other = make_task("u", "name the opposite of word and say it")
    builder = PromptBuilder(tokenizer, config.prompt, 256)
    found, _ = score_tasks(model, [task, other], config, builder)
    by_place = {(pair.instance_id, pair.perturbation): pair for pair in found.pairs}
    assert len(found.pairs) == len(expected.pairs)
    for pair in expected.pairs:
        mine = by_place[pair.instance_id, pair.perturbation]
        assert mine.logprob == pytest.approx(pair.logprob, abs=1e-4)
        assert (mine.n_tokens, mine.n_prompt_tokens) == (pair.n_tokens, pair.n_prompt_tokens)
        assert mine.is_greedy == pair.is_greedy
    (measures,) = compute_measures(found.table()).iter_rows(named=True)
    assert measures["prompt_uncertainty"] == pytest.approx(expected.prompt_uncertainty, abs=1e-5)
    alone, _ = score_tasks(model, [task, other], config, builder, perturbed=False)
    assert alone.pairs == [pair for pair in found.pairs if pair.perturbation == 0]
    assert (alone.original_tokens, alone.perturbed_tokens) == (found.original_tokens, 0)
    assert found.perturbed_tokens < sum(pair.n_prompt_tokens for pair in found.pairs)
