"""The wire format of the scoring routes, shared by the server plugin and the client.

All log-probabilities are natural logarithms; all probabilities lie in [0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field

from engine.protocol.score_config import ScoreConfig
from engine.tasks import Record, Several, Task

TokenIds = Annotated[Several[Annotated[int, Field(ge=0)]], Field(min_length=1)]
CacheSalt = Annotated[str, Field(max_length=128, pattern=r"^[A-Za-z0-9._:+=-]+$")]
"""What vLLM's own routes take as one, and no more than ASCII."""


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
        cache_salt: Prefixes are shared only with requests of the same salt, as on vLLM's own
            routes.
    """

    tasks: Annotated[Several[Task], Field(min_length=1)]
    config: ScoreConfig = ScoreConfig()
    stream: bool = False
    on_fault: Literal["error", "skip"] = "error"
    cache_salt: CacheSalt | None = None

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
        is_greedy: Whether the output is what the model answers greedily to this prompt, as far as
            the output goes: no token was likelier anywhere. Null where the engine does not tell.
        second_logprob: `logprob` as a second reading has it, nothing reused; null without one.
    """

    instance_id: str
    perturbation: int
    n_prompt_tokens: int
    n_tokens: int
    logprob: float
    probability: float
    is_greedy: bool | None = None
    second_logprob: float | None = None

    @classmethod
    def of(
        cls,
        instance_id: str,
        perturbation: int,
        n_prompt_tokens: int,
        token_logprobs: Sequence[float],
        is_greedy: bool | None = None,
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
            is_greedy=is_greedy,
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
        """Share of the reusable tokens that were reused; 1 if there were none.

        Where the cache works in blocks, up to a block per request stays below 1; what other tasks
        have brought lifts it above.
        """
        return self.tokens_reused / self.tokens_reusable if self.tokens_reusable else 1.0

    def __add__(self, other: Usage) -> Usage:
        return Usage.total((self, other))

    @classmethod
    def total(cls, usages: Iterable[Usage]) -> Usage:
        """The sum of any number; of thousands of pairs in one go."""
        names = tuple(cls.model_fields)
        columns = zip(*map(attrgetter(*names), usages), strict=True)
        return cls(**dict(zip(names, map(sum, columns), strict=False)))


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
        flip_rate: Share of the perturbed pairs under which the model's greedy answer is another, in
            [0, 1]; null without perturbed pairs, of gold outputs, and where the engine does not
            tell.
        precision: What the engine computes in: `float32`, or something in which rounding tells.
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
    flip_rate: float | None = None
    precision: str | None = None
    weights_version: str
    references: tuple[Reference, ...]
    pairs: tuple[PairScore, ...]
    usage: Usage
    answers: dict[str, QuestionAnswer] = Field(default_factory=dict)


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
