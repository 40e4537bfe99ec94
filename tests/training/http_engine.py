"""An engine over real HTTP whose scores depend on the task's id alone."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler

from engine.measures import perplexity, prediction_probability, prompt_uncertainty
from engine.prompts import PromptBuilder
from engine.protocol.api import (
    PairScore,
    PromptUncertaintyRequest,
    QuestionAnswer,
    Reference,
    SkippedTask,
    StreamTotals,
    TaskScore,
    Usage,
)
from engine.protocol.score_config import ScoreConfig
from engine.protocol.weights_state import WeightsState
from engine.questions.backend import Scored
from engine.questions.incidence import incidence
from engine.questions.label_question import LabelQuestion
from engine.questions.output_question import Sample, find_label
from engine.questions.pair_plan import Pair
from engine.questions.question import Asked, QuestionRow
from engine.questions.question_registry import find_question
from engine.tasks import Task
from engine.variance.pair_grid import PairGrid
from tests.engine.http_serving import serving
from tests.engine.small_tokenizers import gpt2
from tests.engine.weights.served import SERVED


class HttpEngine:
    """What the engine does, and what it was asked.

    Attributes:
        url: Where it listens.
        version: The live weights.
        served: What it was started with.
        scored: Ids of the tasks that it was asked to score, in order.
        faulty: A task that it cannot score, if it may skip it.
        fail_after: Fail after this many scores of a request.
    """

    def __init__(self) -> None:
        self.url = ""
        self.version = "base"
        self.served = SERVED
        self.scored: list[str] = []
        self.fail_after: int | None = None
        self.faulty: str | None = None

    def weights(self) -> WeightsState:
        return WeightsState(version=self.version, path=self.served.model, served=self.served)


def fake_score(task: Task, config: ScoreConfig, version: str) -> TaskScore:
    draw = random.Random(f"{task.id}/{config.seed}")
    base = draw.random()
    pairs = []
    n, k = len(task.instances), config.n_perturbations
    met = incidence(task.id, n, k, config.instances_per_perturbation, config.seed)
    for i, instance in enumerate(task.instances):
        for j in (0, *(j for j, column in enumerate(met, 1) if i in column)):
            logprob = 3 * math.log(min(1.0, max(1e-3, base + draw.gauss(0, 0.1))))
            pairs.append(
                PairScore(
                    instance_id=instance.id,
                    perturbation=j,
                    n_prompt_tokens=9 - min(j, 3),
                    n_tokens=3,
                    logprob=logprob,
                    probability=math.exp(logprob / 3),
                )
            )
    references = tuple(
        Reference(
            instance_id=instance.id,
            text="blue",
            token_ids=(5, 6, 2),
            finish_reason="stop",
            n_prompt_tokens=9,
            n_positive_examples=0,
            n_negative_examples=0,
        )
        for instance in task.instances
    )
    grid = PairGrid.of(pairs)
    return TaskScore(
        task_id=task.id,
        prompt_uncertainty=prompt_uncertainty(grid),
        prediction_probability=prediction_probability(grid),
        perplexity=perplexity(grid),
        n_instances=len(task.instances),
        n_perturbations=config.n_perturbations,
        weights_version=version,
        references=references,
        pairs=tuple(pairs),
        usage=Usage(pairs=len(pairs)),
        answers=fake_answers(task, config),
    )


def fake_answers(task: Task, config: ScoreConfig) -> dict[str, QuestionAnswer]:
    question = find_question(config)
    if question is None:
        return {}
    rows = fake_samples(task, config) if question.draws else fake_labels(task, config)
    return {question.name: question.answer(rows, task)}


def fake_labels(task: Task, config: ScoreConfig) -> list[QuestionRow]:
    draw = random.Random(f"labels/{task.id}/{config.seed}")
    asked = [
        Asked(Pair(task.id, instance.id, j, (1,), (2, 3)), label)
        for instance in task.instances
        for j in range(config.n_perturbations + 1)
        for label in task.labels
    ]
    scored = [Scored((-draw.expovariate(1), -0.1), 0, 0, rescored=False) for _ in asked]
    builder = PromptBuilder(gpt2(), config.prompt, 4096)
    return LabelQuestion().keep(asked, scored, task, builder)


def fake_samples(task: Task, config: ScoreConfig) -> list[QuestionRow]:
    draw = random.Random(f"samples/{task.id}/{config.seed}")
    samples: list[QuestionRow] = []
    for instance in task.instances:
        for j in range(config.n_perturbations + 1):
            for number in range(config.sampling.n_samples):
                output = draw.choice(("yes", "no", "who knows"))
                samples.append(
                    Sample(
                        instance_id=instance.id,
                        perturbation=j,
                        sample=number,
                        output=output,
                        label=find_label(output, task.labels),
                        n_tokens=2,
                        finish_reason="stop",
                    )
                )
    return samples


@contextmanager
def http_engine() -> Iterator[HttpEngine]:
    """A running engine."""
    state = HttpEngine()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._start()
            answer = state.weights()
            self.wfile.write(answer.model_dump_json().encode())

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            asked = PromptUncertaintyRequest.model_validate(json.loads(body))
            self._start()
            for count, task in enumerate(asked.tasks):
                if count == state.fail_after:
                    self.wfile.write(b'{"error": {"message": "out of order", "code": 500}}\n')
                    return
                if task.id == state.faulty and asked.on_fault == "skip":
                    skipped = SkippedTask(task_id=task.id, reason="too long", field="input")
                    self.wfile.write(skipped.model_dump_json().encode() + b"\n")
                    continue
                state.scored.append(task.id)
                line = fake_score(task, asked.config, state.version).model_dump_json()
                self.wfile.write(line.encode() + b"\n")
            n_skipped = sum(task.id == state.faulty for task in asked.tasks)
            totals = StreamTotals(
                tasks=len(asked.tasks) - n_skipped,
                skipped=n_skipped,
                weights_version=state.version,
                usage=Usage(),
            )
            self.wfile.write(totals.model_dump_json().encode() + b"\n")

        def _start(self) -> None:
            self.send_response(200)
            self.end_headers()

    with serving(Handler) as state.url:
        yield state
