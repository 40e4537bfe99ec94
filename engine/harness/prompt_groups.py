"""Contexts that the harness wants outputs for, in groups that one request can ask for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from lm_eval.models.utils import (  # type: ignore[import-untyped,import-not-found,unused-ignore]
    handle_stop_sequences,
    maybe_truncate,
    normalize_gen_kwargs,
)

from engine.errors import InputError

PROMPTS_PER_REQUEST = 64

_OPTIONS = frozenset(
    {
        "allowed_token_ids",
        "bad_words",
        "frequency_penalty",
        "ignore_eos",
        "include_stop_str_in_output",
        "logit_bias",
        "min_p",
        "min_tokens",
        "n",
        "presence_penalty",
        "repetition_detection",
        "repetition_penalty",
        "response_format",
        "seed",
        "skip_special_tokens",
        "spaces_between_special_tokens",
        "stop_token_ids",
        "structured_outputs",
        "temperature",
        "thinking_token_budget",
        "top_k",
        "top_p",
        "vllm_xargs",
        "watermarking",
    }
)
"""What shapes an output, of the fields of a completion request (vLLM 0.32): it ignores others."""


class PromptGroup(NamedTuple):
    """Prompts whose outputs are generated alike.

    Attributes:
        options: Fields of a request to OpenAI's completions route; `stop` are the texts that end an
            output.
        prompts: Token ids of each, and the number of its request; sorted, so that neighbours share
            prefixes.
    """

    options: dict[str, Any]
    prompts: list[tuple[list[int], int]]


def group_prompts(
    requests: Sequence[tuple[list[int], dict[str, Any]]],
    eos: str,
    max_gen_toks: int,
    max_length: int,
    truncation_side: str,
) -> list[PromptGroup]:
    """The requests in groups.

    Args:
        requests: Token ids of each context, and how the task wants its output generated.
        eos: Text of the end of sequence.
        max_gen_toks: Longest output where the task names none.
        max_length: The model's context, in tokens.
        truncation_side: Where a context is cut that does not fit before its output.

    Raises:
        InputError: If an option of the generation is none that is passed on to vLLM.
    """
    alike: dict[str, PromptGroup] = {}
    for number, (context, given) in enumerate(requests):
        options = dict(normalize_gen_kwargs(given, default_max_gen_toks=max_gen_toks))
        if not options.pop("do_sample", None):
            options["temperature"] = 0.0
        options.setdefault("temperature", 1.0)  # else the served model's own counts
        stop = handle_stop_sequences(options.pop("until", None), eos=eos)
        ids, max_tokens = maybe_truncate(
            context,
            max_gen_toks=int(options.pop("max_gen_toks")),
            max_model_len=max_length,
            side=truncation_side,
        )
        if options.get("num_beams") == 1:  # some tasks say so
            del options["num_beams"]
        for name in sorted(options.keys() - _OPTIONS):
            problem = f"is no option that is passed on to vLLM (found {options[name]!r})"
            raise InputError(problem, field=name)
        # As the harness has it for its model of vLLM.
        kept = {"skip_special_tokens": False, "spaces_between_special_tokens": False} | options
        fields = kept | {"max_tokens": max_tokens, "stop": [text for text in stop if text]}
        group = alike.setdefault(json.dumps(fields, sort_keys=True), PromptGroup(fields, []))
        group.prompts.append((ids, number))
    parts = []
    for group in alike.values():
        group.prompts.sort()
        for start in range(0, len(group.prompts), PROMPTS_PER_REQUEST):
            prompts = group.prompts[start : start + PROMPTS_PER_REQUEST]
            parts.append(PromptGroup(group.options, prompts))
    return parts
