"""Layouts and perturbations on the real server; paraphrases that it writes itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engine.client import EngineClient
from engine.perturb import Compose, Formatting, LetterCase, Paraphrase, ResampleExamples, Typos
from engine.pools.bundled import training_pool
from engine.process.engine_process import EngineProcess
from engine.prompts import PromptBuilder
from engine.prompts.prompt_config import PromptConfig
from engine.protocol.score_config import ScoreConfig
from engine.questions.pair_plan import plan_pairs, plan_task
from tests.integration.reference import Reference

pytestmark = pytest.mark.integration

COMPOSED = Compose(steps=(ResampleExamples(), Typos(rate=0.1), LetterCase(), Formatting()))
OWN = "{{ definition }}\n{% for one in positive_examples %}{{ one.input }} = {{ one.output }}\n"
OWN += "{% endfor %}{{ input }} ="


@pytest.mark.parametrize(
    "prompt",
    [
        {"layout": "plain", "chat_template": "never"},
        {"layout": "alpaca"},
        {"layout": "chat"},
        {"layout": "template", "template": OWN},
    ],
    ids=lambda prompt: prompt["layout"],
)
def test_every_layout_scores_as_transformers_does(
    client: EngineClient, base: Reference, prompt: dict[str, Any]
) -> None:
    config = ScoreConfig(
        n_instances=2,
        n_perturbations=2,
        max_output_tokens=6,
        prompt=PromptConfig(**prompt),
        perturbation=COMPOSED,
    )
    task = training_pool()[3]
    (score,) = client.score([task], config)
    assert score.prompt_uncertainty
    assert [one.n_positive_examples for one in score.references] == [2, 2]
    builder = PromptBuilder(base.tokenizer, config.prompt, 8192)
    outputs = [one.token_ids for one in score.references]
    measured = {(one.instance_id, one.perturbation): one.probability for one in score.pairs}
    for pair in plan_pairs(plan_task(task, config, builder), outputs, config, builder):
        expected = base.probability(pair.prompt, pair.output)
        assert measured[pair.instance_id, pair.perturbation] == pytest.approx(expected, abs=1e-4)


def test_the_engine_writes_paraphrases(
    client: EngineClient, server: EngineProcess, tmp_path: Path
) -> None:
    config = ScoreConfig(
        n_instances=2, n_perturbations=2, max_output_tokens=6, perturbation=Paraphrase()
    )
    tasks = list(training_pool())[:2]
    kept = tmp_path / "paraphrases.jsonl"
    with EngineClient(server.url, paraphrases=kept) as paraphrasing:
        scores = list(paraphrasing.score(tasks, config))
        lines = kept.read_bytes()
        again = list(paraphrasing.score(tasks, config))
    assert len(lines.splitlines()) == 4
    assert kept.read_bytes() == lines, "nothing was asked for a second time"
    for first, second in zip(scores, again, strict=True):
        assert first.prompt_uncertainty
        assert second.prompt_uncertainty == pytest.approx(first.prompt_uncertainty, abs=1e-5)
