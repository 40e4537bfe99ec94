"""The peers' ways of sampling: `python -m benchmarks.peers.sampling_ways WAY PROMPTS ANSWER`."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.common.hf_model import load_model
from benchmarks.common.pairs import BenchmarkPairs
from benchmarks.peers.ways import answer_when_told, vllm_arguments

SECONDS = 120.0
"""After so long transformers begins no further batch."""

BATCH = 8
"""Prompts of a padded batch of transformers."""

WARM_UP = 2

_Samples = list[list[list[int]]]
_Sample = Callable[[list[list[int]]], _Samples]


class SamplingPlan(BenchmarkPairs):
    """What is sampled: the prompts of pairs, whose outputs are the references.

    Attributes:
        n_samples: Outputs a prompt.
        max_tokens: Their longest length.
        temperature: What logits are divided by.
        end: The token that ends one.
        seeds: Of each prompt.
    """

    n_samples: int
    max_tokens: int
    temperature: float
    end: int
    seeds: list[int]

    @property
    def size(self) -> int:
        """Samples of all prompts."""
        return len(self.prompts) * self.n_samples


def transformers_way(plan: SamplingPlan) -> _Sample:
    """`generate` on padded batches of neighbours; each prompt is computed for each sample.

    Batches are begun for `SECONDS` in a drawn order, so those that are reached are of all tasks;
    the other prompts have no samples.
    """
    import torch

    network, device = load_model(plan.model)

    def sample(prompts: list[list[int]]) -> _Samples:
        torch.manual_seed(plan.seeds[0] % 2**31)
        found: _Samples = [[] for _ in prompts]
        batches = list(range(0, len(prompts), BATCH))
        random.Random(0).shuffle(batches)
        ends = time.monotonic() + SECONDS
        for start in batches:
            if time.monotonic() > ends:
                break
            batch = prompts[start : start + BATCH]
            width = max(map(len, batch))
            ids = torch.tensor([[plan.end] * (width - len(one)) + one for one in batch])
            mask = torch.tensor([[0] * (width - len(one)) + [1] * len(one) for one in batch])
            with torch.inference_mode():
                rows = network.generate(
                    input_ids=ids.to(device),
                    attention_mask=mask.to(device),
                    do_sample=True,
                    temperature=plan.temperature,
                    top_k=0,
                    top_p=1.0,
                    num_return_sequences=plan.n_samples,
                    max_new_tokens=plan.max_tokens,
                    eos_token_id=plan.end,
                    pad_token_id=plan.end,
                )
            outputs = [_until(plan.end, row) for row in rows[:, width:].tolist()]
            n = plan.n_samples
            for number in range(len(batch)):
                found[start + number] = outputs[number * n : (number + 1) * n]
        return found

    return sample


def vllm_way(plan: SamplingPlan) -> _Sample:
    """VLLM offline with `n` samples a request."""
    from vllm import LLM, SamplingParams

    from engine.process.settings import choose_settings

    on_cpu = choose_settings().device == "cpu"
    own: dict[str, Any] = {"dtype": "bfloat16"}
    if on_cpu:
        own = {
            "dtype": "float32",
            "block_size": 32,
            "max_num_batched_tokens": 2048,
            "max_num_seqs": 64,
        }
    llm = LLM(plan.model, max_model_len=2048, **{**own, **vllm_arguments()})
    # Seeded, its engine dies on a CPU when a step cuts a prompt (docs/decisions/0025-samples.md).
    seeds = [None] * len(plan.seeds) if on_cpu else plan.seeds

    def sample(prompts: list[list[int]]) -> _Samples:
        given: Any = [{"prompt_token_ids": prompt} for prompt in prompts]
        params = [
            SamplingParams(
                n=plan.n_samples,
                temperature=plan.temperature,
                seed=seed,
                max_tokens=plan.max_tokens,
                stop_token_ids=[plan.end],
                detokenize=False,
            )
            for seed in seeds[: len(prompts)]
        ]
        answers = llm.generate(given, params)
        return [[list(one.token_ids) for one in answer.outputs] for answer in answers]

    return sample


def _until(end: int, tokens: list[int]) -> list[int]:
    """The tokens up to the first that ends them."""
    return tokens[: tokens.index(end) + 1] if end in tokens else tokens


WAYS = {"transformers": transformers_way, "vllm": vllm_way}


def main(way: str, given: Path, answer_file: Path) -> None:
    """Samples one way."""
    plan = SamplingPlan.model_validate_json(given.read_bytes())
    sample = WAYS[way](plan)
    # Backwards: no prompt may be in a cache.
    sample([prompt[::-1] for prompt in plan.prompts[:WARM_UP]])
    answer_when_told(answer_file, "samples", lambda: sample(plan.prompts))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
