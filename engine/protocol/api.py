"""The wire format of the scoring routes, shared by the server plugin and the client.

All log-probabilities are natural logarithms; all probabilities lie in [0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from engine.protocol.score_config import ScoreConfig
from engine.protocol.served_model import ServedModel
from engine.schema_text import describe
from engine.tasks import Record, Task

TokenIds = Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)]

WeightsKind = Literal["full", "lora"]
"""All weights of a model, or a low-rank adapter that is merged into the base model's."""


class PromptUncertaintyRequest(Record):
    """Body of `POST /v1/prompt_uncertainty`.

    Attributes:
        tasks: The tasks to score, ids unique. At most `config.n_instances` instances of each are
            used, drawn with the config's seed.
        config: What the scores depend on beside tasks and weights.
        stream: Whether to answer with one JSON line per finished task (NDJSON) instead of one body.
        on_fault: What to do about a task that cannot be scored (a prompt that does not fit the
            context, a missing gold output, an answer that is no probability): `error` fails the
            request, `skip` reports the task and goes on.
    """

    tasks: Annotated[tuple[Task, ...], Field(min_length=1)]
    config: ScoreConfig = ScoreConfig()
    stream: bool = False
    on_fault: Literal["error", "skip"] = "error"

    EXAMPLE: ClassVar[dict[str, Any]] = {
        "tasks": [
            {
                "id": "capital_city",
                "definition": "Name the capital of the country.",
                "positive_examples": [{"input": "Italy", "output": "Rome"}],
                "instances": [{"id": "1", "input": "France", "outputs": ["Paris"]}],
            }
        ],
        "config": {"n_instances": 1, "n_perturbations": 2, "max_output_tokens": 8},
    }


class PairScore(Record):
    """One scored pair, a row of `pairs.parquet`.

    Attributes:
        instance_id: The instance.
        perturbation: j; 0 is the original prompt.
        n_prompt_tokens: Length of the prompt in tokens.
        n_tokens: Tokens of the reference output, end-of-sequence included when it was emitted.
        logprob: Sum of the token log-probabilities, <= 0.
        probability: exp(logprob / n_tokens), the geometric mean per token, in [0, 1].
    """

    instance_id: str
    perturbation: int
    n_prompt_tokens: int
    n_tokens: int
    logprob: float
    probability: float

    @classmethod
    def of(
        cls,
        instance_id: str,
        perturbation: int,
        n_prompt_tokens: int,
        token_logprobs: Sequence[float],
    ) -> Self:
        """The score of a pair, given the log-probabilities of its output's tokens, at least one."""
        logprob = math.fsum(token_logprobs)
        return cls(
            instance_id=instance_id,
            perturbation=perturbation,
            n_prompt_tokens=n_prompt_tokens,
            n_tokens=len(token_logprobs),
            logprob=logprob,
            probability=math.exp(logprob / len(token_logprobs)),
        )


class Reference(Record):
    """The reference output of an instance.

    Attributes:
        instance_id: The instance.
        text: The output, decoded, special tokens left out.
        token_ids: The exact token ids that were scored.
        finish_reason: `stop` (end of sequence), `length` (cut at max_output_tokens) or `gold`.
        n_prompt_tokens: Length of the original prompt in tokens.
        n_positive_examples: Positive examples that fit the context, decided on the original prompt.
        n_negative_examples: Negative examples that fit the context.
    """

    instance_id: str
    text: str
    token_ids: TokenIds
    finish_reason: str
    n_prompt_tokens: int
    n_positive_examples: int
    n_negative_examples: int


class Usage(Record):
    """What the work cost.

    Attributes:
        pairs: Pairs scored, those of a prompt and a label included.
        tokens_submitted: Tokens of all requests sent to the engine (prompt and output parts).
        tokens_reused: Of these, tokens the prefix cache supplied.
        tokens_reusable: Of these, tokens that stand in the same place behind the same tokens in
            another request of the task: what an unlimited cache of single tokens would supply.
        tokens_generated: Tokens generated for reference outputs.
        pairs_rescored: Pairs scored a second time because the cache covered output tokens.
        samples: Outputs sampled.
        tokens_sampled: Tokens generated for them.
    """

    pairs: int = 0
    tokens_submitted: int = 0
    tokens_reused: int = 0
    tokens_reusable: int = 0
    tokens_generated: int = 0
    pairs_rescored: int = 0
    samples: int = 0
    tokens_sampled: int = 0

    @property
    def tokens_computed(self) -> int:
        """Submitted tokens that the model had to compute; generated ones come on top."""
        return self.tokens_submitted - self.tokens_reused

    @property
    def reuse_share(self) -> float:
        """Share of the reusable tokens that were reused, in [0, 1]; 1 if there were none.

        The cache works in blocks, so up to a block per request stays below 1.
        """
        return self.tokens_reused / self.tokens_reusable if self.tokens_reusable else 1.0

    def __add__(self, other: Usage) -> Usage:
        mine, theirs = self.model_dump(), other.model_dump()
        return Usage(**{name: mine[name] + theirs[name] for name in mine})


class QuestionAnswer(Record):
    """What a question brought of one task.

    Attributes:
        values: Its measures by name, the one that names the question first; null where there is
            nothing to measure, such as no perturbed prompt that differs from its original.
        standard_error: Of the first, over repeats with other instances and perturbations, judged
            from this task alone.
        rows: All that was kept, rows of the question's table, ordered by instance, perturbation and
            place.
    """

    values: dict[str, float | None]
    standard_error: float | None
    rows: tuple[dict[str, str | int | float | bool | None], ...]


class TaskScore(Record):
    """The measures of one task.

    Attributes:
        task_id: The task.
        prompt_uncertainty: U, mean |p(i, j) - p(i, 0)| over instances and j >= 1, in [0, 1]. Null
            where it cannot be measured: no perturbed prompt differs from its original.
        prediction_probability: P, mean p(i, 0) over instances, in [0, 1].
        perplexity: exp of minus the mean over instances of the mean token log-probability under the
            original prompt, >= 1.
        n_instances: Instances measured.
        n_perturbations: Perturbed prompts; each instance met all of them, or some in an incomplete
            design.
        weights_version: The weights every number of this record was computed with.
        references: One reference output per instance.
        pairs: All scored pairs, ordered by instance and perturbation; originals alone where prompt
            uncertainty cannot be measured.
        usage: What it cost.
        answers: What was asked on top, by the name of the question.
    """

    task_id: str
    prompt_uncertainty: float | None
    prediction_probability: float
    perplexity: float
    n_instances: int
    n_perturbations: int
    weights_version: str
    references: tuple[Reference, ...]
    pairs: tuple[PairScore, ...]
    usage: Usage
    answers: dict[str, QuestionAnswer] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _of_earlier_journals(cls, given: Any) -> Any:
        """What likelihoods alone left empty there."""
        if isinstance(given, dict):
            unasked = [name for name in ("disagreement", "labels") if given.get(name, 0) is None]
            return {name: value for name, value in given.items() if name not in unasked}
        return given


class SkippedTask(Record):
    """A task that could not be scored, where the request says to skip such.

    Attributes:
        task_id: The task.
        reason: What was wrong, naming instance or pair.
        field: The field at fault, if it is one.
    """

    task_id: str
    reason: str
    field: str | None = None

    @classmethod
    def because(cls, task_id: str, error: Exception) -> SkippedTask:
        """The task, skipped because of an error."""
        return cls(task_id=task_id, reason=str(error), field=getattr(error, "field", None))


class PromptUncertaintyResponse(Record):
    """Answer of `POST /v1/prompt_uncertainty` when not streaming.

    Attributes:
        weights_version: The weights all of them were computed with.
        scores: One per task that was not skipped, in the order of the request.
        usage: What it cost.
        skipped: The other tasks.
    """

    weights_version: str
    scores: tuple[TaskScore, ...]
    usage: Usage
    skipped: tuple[SkippedTask, ...] = ()


class StreamTotals(Record):
    """Last line of a streamed answer; a stream without it was cut off.

    Attributes:
        done: Always true.
        tasks: How many scores came before.
        weights_version: The version all of them were computed with.
        usage: Sum over the tasks.
        skipped: How many tasks were skipped.
    """

    done: bool = True
    tasks: int
    skipped: int = 0
    weights_version: str
    usage: Usage


class TokenPair(Record):
    """A prompt and a completion as token ids, both non-empty.

    Attributes:
        prompt_token_ids: The prompt.
        completion_token_ids: The completion. Both together fit the model's context.
    """

    prompt_token_ids: TokenIds
    completion_token_ids: TokenIds


class CompletionLogprobsRequest(Record):
    """Body of `POST /v1/completion_logprobs`: how likely is each completion after its prompt?

    Attributes:
        pairs: The pairs; neighbours that share a prefix are scored fastest.
    """

    pairs: Annotated[tuple[TokenPair, ...], Field(min_length=1)]

    EXAMPLE: ClassVar[dict[str, Any]] = {
        "pairs": [{"prompt_token_ids": [504, 3575, 282], "completion_token_ids": [260, 905]}]
    }


class CompletionLogprobs(Record):
    """Log-probabilities of one completion.

    Attributes:
        token_logprobs: One per token, in order, each <= 0.
        logprob: Their sum.
    """

    token_logprobs: tuple[float, ...]
    logprob: float


class CompletionLogprobsResponse(Record):
    """Answer of `POST /v1/completion_logprobs`.

    Attributes:
        weights_version: The weights all of them were computed with.
        results: One per pair, in the order of the request.
        usage: What it cost.
    """

    weights_version: str
    results: tuple[CompletionLogprobs, ...]
    usage: Usage


class WeightsState(Record):
    """Answer of `GET /v1/weights` and `POST /v1/weights`.

    Attributes:
        version: The live weights version.
        path: The folder or hub id they were loaded from.
        kind: `full`, or `lora` for an adapter that was merged into `base`.
        base: Folder of the weights that the adapter was merged into; null for whole weights.
        seconds: How long the last load took, checks and verification included; null before one.
        served: What the server was started with. A load changes the weights, and nothing else of
            it.
    """

    version: str
    path: str
    kind: WeightsKind = "full"
    base: str | None = None
    seconds: float | None = None
    served: ServedModel

    @property
    def is_base(self) -> bool:
        """Whether these are the weights of the start, and they carry no manifest."""
        return self.version == self.served.version

    def difference(self, other: WeightsState) -> str | None:
        """Why a load of weights alone cannot turn one into the other; None if it can.

        Returns:
            Both by name and version, and what differs.
        """
        found = self.served.differences(other.served)
        if not found and self.is_base and other.is_base and self.version != other.version:
            found = ["other weights"]
        if not found:
            return None
        return f"{self.in_words()} and {other.in_words()}: {', '.join(found)}"

    def in_words(self) -> str:
        """Where they are from, and the version."""
        return f"{self.path} ({self.version})"


class LoadWeightsRequest(Record):
    """Body of `POST /v1/weights`: load a published checkpoint.

    Attributes:
        path: Folder of the checkpoint, readable by the server.
        version: The version its manifest names; guards against loading the wrong folder.
        kind: `full` for all weights of a model; `lora` for a peft adapter, which is merged into the
            base model's weights while they are loaded. Null: what the manifest says. A kind that
            differs from the manifest's is refused.
    """

    path: Annotated[str, Field(min_length=1, max_length=4096)]
    version: Annotated[str, Field(min_length=1, max_length=256)]
    kind: WeightsKind | None = None

    EXAMPLE: ClassVar[dict[str, Any]] = {
        "path": "/runs/demo/rounds/01/checkpoint",
        "version": "round-01-0123456789ab",
    }


class Readiness(Record):
    """Answer of `GET /ready`.

    Attributes:
        ready: Always true; a server that is not ready answers 503.
        weights_version: The weights it is ready to score with.
    """

    ready: Literal[True] = True
    weights_version: str


class Answer(BaseModel):
    """Base of what vLLM answers as well, perhaps with more in it."""

    model_config = ConfigDict(json_schema_extra=describe)


class ErrorInfo(Answer):
    """What went wrong, in vLLM's own shape.

    Attributes:
        message: What is wrong; names the record and the field.
        type: The kind of error, such as `BadRequestError`.
        param: The field at fault.
        code: The HTTP status; of a stream's error line the status it would have had.
        record: The record at fault: a task id, or `pairs[3]`.
    """

    message: str
    type: str
    param: str | None = None
    code: int
    record: str | None = None


class ErrorAnswer(Answer):
    """Body of every answer that is no success, and last line of a stream that failed.

    Attributes:
        error: What went wrong.
    """

    error: ErrorInfo
