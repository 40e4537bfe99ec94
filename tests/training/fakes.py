"""Tasks, scores and an engine that answer at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from engine.errors import InputError
from engine.protocol.api import PairScore, QuestionAnswer, Reference, SkippedTask, TaskScore, Usage
from engine.protocol.completions import CompletionLogprobs, CompletionLogprobsResponse, TokenPair
from engine.protocol.score_config import ScoreConfig
from engine.protocol.served_model import ServedModel
from engine.protocol.weights_state import Verification, WeightsState
from engine.questions.output_question import OutputQuestion, Sample
from engine.questions.question_registry import find_question
from engine.tasks import Instance, Pool, Task
from engine.weights.manifest import Probe, read_manifest
from tests.engine.weights.served import SERVED, live
from training.trainer.resume import fingerprint
from training.trainer.trainer_process import TrainJob, TrainProgress, TrainResult

ANSWERS = {"sky": "blue", "grass": "green", "blood": "red", "abc": "cba"}


class KilledError(Exception):
    """Stands for the death of the process."""


def make_task(task_id: str, definition: str = "say color of", category: str = "color") -> Task:
    return Task(
        id=task_id,
        definition=definition,
        category=category,
        instances=tuple(
            Instance(id=name, input=name, outputs=(answer,)) for name, answer in ANSWERS.items()
        ),
    )


def make_pool(n_tasks: int, prefix: str = "task", category: str = "color") -> Pool:
    return Pool([make_task(f"{prefix}-{index}", category=category) for index in range(n_tasks)])


def make_score(
    task_id: str, uncertainty: float, probability: float = 0.5, version: str = "base"
) -> TaskScore:
    pairs = tuple(
        PairScore(
            instance_id="sky",
            perturbation=j,
            n_prompt_tokens=9,
            n_tokens=2,
            logprob=-1.0,
            probability=probability,
        )
        for j in range(3)
    )
    reference = Reference(
        instance_id="sky",
        text="blue",
        token_ids=(5, 2),
        finish_reason="stop",
        n_prompt_tokens=9,
        n_positive_examples=0,
        n_negative_examples=0,
    )
    return TaskScore(
        task_id=task_id,
        prompt_uncertainty=uncertainty,
        prediction_probability=probability,
        perplexity=2.0,
        n_instances=1,
        n_perturbations=2,
        weights_version=version,
        references=(reference,),
        pairs=pairs,
        usage=Usage(pairs=3, tokens_submitted=33),
    )


def make_disagreement(number: int) -> dict[str, QuestionAnswer]:
    """Two samples under each of three prompts; `number` of the four perturbed ones differ."""
    outputs = ["blue", "blue", *("red" if n < number else "blue" for n in range(4))]
    samples = [
        Sample(
            instance_id="sky",
            perturbation=n // 2,
            sample=n % 2,
            output=output,
            label=None,
            n_tokens=2,
            finish_reason="stop",
        )
        for n, output in enumerate(outputs)
    ]
    return {"output_disagreement": OutputQuestion().answer(samples, make_task("none"))}


@dataclass
class FakeEngine:
    """Serves whatever it was told to load, and writes down what it was asked.

    Attributes:
        version: The live version.
        events: Everything that happened, shared with the fake trainer.
        die_after_scores: Raise after this many scores.
        unscorable: Tasks that cannot be scored.
        stale: Claim success of a load without changing the version.
    """

    version: str = "base"
    events: list[str] = field(default_factory=list)
    die_after_scores: int | None = None
    unscorable: frozenset[str] = frozenset()
    stale: bool = False
    lost_tasks: frozenset[str] = frozenset()
    served: ServedModel = SERVED

    def score(
        self,
        tasks: Iterable[Task],
        config: ScoreConfig,
        on_skip: Callable[[SkippedTask], None] | None = None,
    ) -> Iterator[TaskScore]:
        tasks = list(tasks)
        self.events.append(f"score {len(tasks)} under {self.version}")
        # Backwards: the loop must not rely on the order of arrival.
        for count, task in enumerate(reversed(tasks)):
            if count == self.die_after_scores:
                raise KilledError
            if task.id in self.unscorable:
                if on_skip is None:
                    raise InputError("cannot be scored", record=task.id)
                on_skip(SkippedTask(task_id=task.id, reason="cannot be scored"))
            elif task.id not in self.lost_tasks:
                number = int(task.id.rsplit("-", 1)[1])
                score = make_score(task.id, (number * 7 % 10) / 10, version=self.version)
                if find_question(config):
                    score = score.model_copy(update={"answers": make_disagreement(number)})
                yield score

    def weights(self) -> WeightsState:
        self.events.append("ask version")
        return live(self.version).model_copy(update={"served": self.served})

    def load_weights(
        self, path: Path, version: str, *, verify: Verification = "probes"
    ) -> WeightsState:
        self.events.append(f"load {version}")
        assert version == self.served.version or read_manifest(path).version == version
        if not self.stale:
            self.version = version
        return live(version, str(path))

    def generate(self, prompts: Sequence[Sequence[int]], max_tokens: int, end: int) -> list[str]:
        self.events.append(f"generate under {self.version}")
        return ["blue"] * len(prompts)

    def completion_logprobs(self, pairs: Sequence[TokenPair]) -> CompletionLogprobsResponse:
        self.events.append(f"logprobs under {self.version}")
        results = tuple(
            CompletionLogprobs.of(
                index,
                self.version,
                len(pair.prompt_token_ids),
                [-0.5 for _ in pair.completion_token_ids],
            )
            for index, pair in enumerate(pairs)
        )
        return CompletionLogprobsResponse(
            weights_version=self.version, results=results, usage=Usage(pairs=len(pairs))
        )


def fake_trainer(events: list[str]) -> Callable[..., TrainResult]:
    """A trainer that writes a few bytes in the safetensors format."""

    def train(
        job: TrainJob,
        *,
        job_file: Path,
        log_file: Path,
        on_progress: Callable[[TrainProgress], None],
    ) -> TrainResult:
        import numpy
        from safetensors.numpy import save_file

        events.append(f"train from {Path(job.model).name}")
        on_progress(TrainProgress(phase="loading"))
        on_progress(TrainProgress(phase="training", step=1, total=1, loss=1.5))
        job.output.mkdir()
        content = numpy.frombuffer(job.rows.read_bytes(), dtype=numpy.uint8)
        save_file({"weight": content.copy()}, job.output / "model.safetensors")
        result = TrainResult(
            output=job.output,
            base_model=job.model,
            dtype="float32",
            rows=4,
            steps=2,
            seconds=1.0,
            seconds_per_step=0.5,
            losses=(2.0, 1.5),
            probes=tuple(_probe(pair) for pair in job.probes),
            fingerprint=fingerprint(job),
        )
        job.result.write_text(result.model_dump_json())
        return result

    return train


def _probe(pair: TokenPair) -> Probe:
    return Probe(
        prompt_token_ids=pair.prompt_token_ids,
        completion_token_ids=pair.completion_token_ids,
        token_logprobs=tuple(-0.5 for _ in pair.completion_token_ids),
    )
