"""What scoring asks of an engine, and what it gets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from engine.errors import EngineError
from engine.protocol.api import Usage


@dataclass(frozen=True, slots=True)
class PlannedSample:
    """One output to sample.

    Attributes:
        task_id: The task.
        instance_id: The instance.
        perturbation: j; 0 is the original prompt.
        sample: Its number among the samples of this prompt, from 0.
        prompt: The prompt's token ids.
        seed: Of the draw alone, in [0, 2 ** 63).
        temperature: What logits are divided by; 0 takes the likeliest token.
        top_p: Share of the probability that is drawn from.
        max_tokens: Its longest length, in tokens.
        end: The token that ends it.
    """

    task_id: str
    instance_id: str
    perturbation: int
    sample: int
    prompt: tuple[int, ...]
    seed: int
    temperature: float
    top_p: float
    max_tokens: int
    end: int

    @property
    def name(self) -> str:
        """task/instance/perturbation/sample, for messages."""
        return f"{self.task_id}/{self.instance_id}/j={self.perturbation}/sample={self.sample}"

    @property
    def submitted(self) -> tuple[int, ...]:
        """What goes to the engine."""
        return self.prompt

    @property
    def most_tokens(self) -> int:
        """Tokens of the prompt and of the longest output."""
        return len(self.prompt) + self.max_tokens

    async def ask(self, backend: Backend, group: int) -> tuple[Sampled, Usage]:
        """The output and what it cost."""
        sampled = await backend.sample(self, group)
        return sampled, Usage(
            samples=1,
            tokens_submitted=sampled.n_submitted,
            tokens_reused=sampled.n_reused,
            tokens_sampled=len(sampled.token_ids),
        )


@dataclass(frozen=True, slots=True)
class Generated:
    """A greedy output.

    Attributes:
        token_ids: The ids, end of sequence included when the model emitted it.
        token_logprobs: Their log-probabilities, each finite and <= 0.
        finish_reason: `stop` or `length`.
        n_submitted: Prompt tokens submitted.
        n_reused: Of these, tokens read from the prefix cache.
    """

    token_ids: tuple[int, ...]
    token_logprobs: tuple[float, ...]
    finish_reason: str
    n_submitted: int
    n_reused: int


@dataclass(frozen=True, slots=True)
class Scored:
    """How likely an output is, and what it cost to know.

    Attributes:
        token_logprobs: The log-probabilities of its tokens, in order, each finite and <= 0.
        n_submitted: Tokens submitted.
        n_reused: Of these, tokens read from the prefix cache.
        rescored: Whether it took two requests.
        is_greedy: Whether each token was a most likely one, so that greedy decoding could have
            emitted it; None where the engine does not tell.
    """

    token_logprobs: tuple[float, ...]
    n_submitted: int
    n_reused: int
    rescored: bool
    is_greedy: tuple[bool, ...] | None = None


@dataclass(frozen=True, slots=True)
class Sampled:
    """A sampled output.

    Attributes:
        token_ids: The ids, end of sequence included when the model emitted it.
        finish_reason: `stop` or `length`.
        n_submitted: Prompt tokens submitted.
        n_reused: Of these, tokens read from the prefix cache.
    """

    token_ids: tuple[int, ...]
    finish_reason: str
    n_submitted: int
    n_reused: int


class Backend(Protocol):
    """What scoring needs of an engine.

    Attributes:
        tokenizer: A transformers tokenizer.
        max_model_len: The model's context, in tokens.
        max_in_flight: Calls that may be waiting for an answer at once, of all kinds together.
        precision: What it computes in: `float32`, or something in which rounding tells.

    Calls of one `group` share prefixes: where the engine has several replicas, each with a prefix
    cache of its own, they go to the same one.
    """

    tokenizer: Any
    max_model_len: int
    max_in_flight: int
    precision: str

    def new_group(self) -> int:
        """A group for the calls of one task."""
        ...

    async def generate(
        self, prompt: tuple[int, ...], max_tokens: int, end: int, name: str, group: int
    ) -> Generated:
        """The greedy output of a prompt, over with the token `end` at the latest."""
        ...

    async def score(
        self,
        prompt: tuple[int, ...],
        output: tuple[int, ...],
        name: str,
        group: int,
        *,
        again: bool = False,
        continued: bool = False,
    ) -> Scored:
        """How likely the output is after the prompt.

        Args:
            again: A second reading: nothing that the first one has computed is reused.
            continued: Samples of the prompt will be asked for.
        """
        ...

    async def sample(self, planned: PlannedSample, group: int) -> Sampled:
        """A sampled output: that of the planned seed, whatever else is going on."""
        ...


class PairBackend(Backend, Protocol):
    """What scoring given pairs needs of an engine.

    Attributes:
        tells_candidates: Whether it tells how likely chosen tokens are.
    """

    tells_candidates: bool

    async def candidates(
        self, before: tuple[int, ...], ids: tuple[int, ...], name: str, group: int
    ) -> Scored:
        """How likely each of some tokens is right after others."""
        ...


def checked_logprobs(logprobs: Sequence[float | None], name: str) -> tuple[float, ...]:
    """The log-probabilities, once it is certain that they are some.

    Raises:
        EngineError: Naming the pair, if one is missing, not finite or clearly above 0.
    """
    checked = []
    for position, value in enumerate(logprobs):
        if value is None or not math.isfinite(value) or value > 1e-4:
            raise EngineError(
                f"pair {name}: the engine gave {value} as log-probability of output token "
                f"{position}"
            )
        checked.append(min(0.0, value))
    return tuple(checked)
