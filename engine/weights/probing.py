"""Probes: pairs that tell one set of weights from another, and what a model makes of them."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from engine.errors import InputError
from engine.protocol.completions import TokenPair
from engine.weights.manifest import Probe

if TYPE_CHECKING:
    from collections.abc import Callable

_TEXTS = (
    ("The capital of France is a city that lies on the river", " Seine, in the north"),
    ("Translate into Spanish: the house is large. Output:", " La casa es grande."),
    ("Question: what is seven times eight? Answer:", " It is 56, fifty-six."),
    ("def add(first, second):\n    return", " first + second\n"),
    ("Sentence: I waited two hours and the soup was cold. Sentiment:", " negative, a complaint"),
    ("The quick brown fox jumps over", " the lazy dog and runs away"),
    ("Once upon a time there was a king who had three", " daughters, and all of them"),
    ("Water boils at one hundred degrees, and it freezes at", " zero degrees Celsius"),
)
"""Of several kinds, so that whatever a training was about moves some of them."""


def crossed(
    prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]]
) -> tuple[TokenPair, ...]:
    """Pairs in which every second prompt is followed by the completion of the next one.

    A fine-tuned model is nearly sure of the completions it was trained on, and a log-probability
    near zero would hide a difference. A prompt keeps its own completion where the other would make
    a pair longer than any that is given: those are known to fit the context.
    """
    n = len(prompts)
    longest = max((len(a) + len(b) for a, b in zip(prompts, completions, strict=True)), default=0)

    def completion(index: int) -> Sequence[int]:
        other = completions[(index + index % 2) % n]
        return other if len(prompts[index]) + len(other) <= longest else completions[index]

    return tuple(
        TokenPair(
            prompt_token_ids=tuple(prompts[index]), completion_token_ids=tuple(completion(index))
        )
        for index in range(n)
    )


def text_pairs(encode: Callable[[str], Sequence[int]]) -> tuple[TokenPair, ...]:
    """Probe pairs for a model of which nothing is known but its tokenizer.

    Args:
        encode: Token ids of a text, without special tokens.
    """
    prompts, completions = zip(*_TEXTS, strict=True)
    return crossed([*map(encode, prompts)], [*map(encode, completions)])


def probe_logprobs(model: Any, pairs: Sequence[TokenPair | Probe]) -> tuple[Probe, ...]:
    """Log-probabilities under a model in memory: one pair at a time, log-softmax in float32.

    The model is in eval mode meanwhile, and afterwards as it was. Where its weights are spread over
    processes, each of them has to call this.

    Raises:
        InputError: If one is not finite; when all are computed.
    """
    import torch

    found: list[tuple[float, ...]] = []
    with _as_served(model), torch.no_grad():
        for pair in pairs:
            ids = [*pair.prompt_token_ids, *pair.completion_token_ids]
            inputs = torch.tensor([ids], device=model.device)
            start = len(pair.prompt_token_ids)
            logits = model(input_ids=inputs, use_cache=False).logits[0, start - 1 : -1]
            table = torch.log_softmax(logits.float(), dim=-1)
            chosen = table.gather(1, inputs[0, start:, None])[:, 0]
            found.append(tuple(min(value, 0.0) for value in chosen.tolist()))
    for index, values in enumerate(found, start=1):
        if not all(map(math.isfinite, values)):
            problem = (
                "log-probabilities that are not finite; its weights or logits are NaN or infinite"
            )
            raise InputError(f"the model gives probe pair {index} {problem}")
    return tuple(
        Probe(
            prompt_token_ids=pair.prompt_token_ids,
            completion_token_ids=pair.completion_token_ids,
            token_logprobs=values,
        )
        for pair, values in zip(pairs, found, strict=True)
    )


def capping_attention(config: Any) -> str | None:
    """The attention of transformers that computes what a model's config says; None: any does.

    The default one, PyTorch's own, leaves out the cap of attention scores (Gemma 2); vLLM has it.
    """
    capped = getattr(config.get_text_config(), "attn_logit_softcapping", None) is not None
    return "eager" if capped else None


@contextlib.contextmanager
def _as_served(model: Any) -> Iterator[None]:
    """The model in eval mode, its attention as vLLM computes it; afterwards both as they were."""
    training = model.training
    bare = getattr(model, "module", model)  # of a wrapper that spreads it over processes
    attention = bare.config._attn_implementation
    switched = attention == "sdpa" and capping_attention(bare.config)
    model.eval()
    try:
        if switched:
            bare.set_attn_implementation(switched)
        yield
    finally:
        if switched:
            bare.set_attn_implementation(attention)
        model.train(training)
