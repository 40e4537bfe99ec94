"""The arithmetic that scoring cannot do without, and how long this machine needs for it.

    python -m benchmarks.common.floor MODEL [--best]

prints the rates of the machine, which `read_rates` asks for: a child's memory on the device is
free again when it ends.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from pydantic import BaseModel

from benchmarks.common.pairs import BenchmarkPairs
from engine.questions.pair_plan import reusable_tokens, with_shared_prefixes

_ROWS = 2048
"""Tokens of a step."""


class Rates(BaseModel):
    """Floating point operations per second of matrix products.

    Attributes:
        best: See `matmul_rate`.
        sustained: See `sustained_rate`; None if it was not asked for.
    """

    best: float
    sustained: float | None = None


def read_rates(model: str, *, sustained: bool = True) -> Rates:
    """The rates of this machine now, read in a child process."""
    asked = [] if sustained else ["--best"]
    command = [sys.executable, "-m", "benchmarks.common.floor", model, *asked]
    answer = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    return Rates.model_validate_json(answer.stdout.splitlines()[-1])


def floor_flops(pairs: BenchmarkPairs) -> float:
    """Floating point operations that no exact way can save.

    Unique tokens of the prefix tree, two operations per weight outside the embeddings, and one row
    of the vocabulary projection per output token. Attention is left out; `attention_flops` is what
    it adds.
    """
    weights, projection = model_sizes(pairs.model)
    return 2.0 * unique_tokens(pairs) * weights + 2.0 * sum(map(len, pairs.outputs)) * projection


def attention_flops(pairs: BenchmarkPairs) -> float:
    """Operations of attention itself: each unique token against every position up to its own.

    Four per position, layer and column of the heads: products of queries and keys, and of weights
    and values. A CPU's softmax comes on top.
    """
    config = json.loads((Path(pairs.model) / "config.json").read_text())
    heads, layers = int(config["num_attention_heads"]), int(config["num_hidden_layers"])
    size = int(config.get("head_dim") or int(config["hidden_size"]) // heads)
    positions = sum(
        sum(range(shared + 1, len(sequence) + 1))
        for sequence, shared in with_shared_prefixes(sequences_of(pairs))
    )
    return 4.0 * positions * layers * heads * size


def whole_flops(pairs: BenchmarkPairs) -> float:
    """The same for whole sequences, nothing shared, with logits for all rows."""
    weights, projection = model_sizes(pairs.model)
    return 2.0 * sum(map(len, sequences_of(pairs))) * (weights + projection)


def unique_tokens(pairs: BenchmarkPairs) -> int:
    """Tokens of the prefix tree."""
    sequences = sequences_of(pairs)
    return sum(map(len, sequences)) - reusable_tokens(sequences)


def sequences_of(pairs: BenchmarkPairs) -> list[tuple[int, ...]]:
    """What is computed of each pair: all but the last token."""
    return [
        tuple(prompt + output[:-1])
        for prompt, output in zip(pairs.prompts, pairs.outputs, strict=True)
    ]


def model_sizes(model: str) -> tuple[int, int]:
    """Weights outside the embeddings, and those of the vocabulary projection."""
    config = json.loads((Path(model) / "config.json").read_text())
    shapes, layers = _layer(model)
    projection = int(config["hidden_size"]) * int(config["vocab_size"])
    return layers * sum(wide * high for wide, high in shapes), projection


def matmul_rate(model: str, seconds: float = 2.0) -> float:
    """Floating point operations per second of the fastest matrix products of a layer.

    Of torch's plain product and, on a CPU, oneDNN's with weights packed beforehand, which is what
    vLLM uses and more than twice as fast; each of a layer's four products at the best of many runs:
    a floor must not be raised by a neighbour's noise.
    """
    shapes, _ = _layer(model)
    work = sum(wide * high for wide, high in shapes)
    return work / sum(
        wide * high / _shape_rate(wide, high, seconds / len(shapes)) for wide, high in shapes
    )


def sustained_rate(model: str, seconds: float = 5.0) -> float:
    """The same of all products of the model one after another, as a step takes them.

    Each layer has weights of its own, which come from memory; the median of passes over so many
    seconds, noise included.
    """
    shapes, layers = _layer(model)
    products = [min(_products(*shape), key=_duration) for shape in shapes * layers]
    passes = []
    ends = time.perf_counter() + seconds
    while time.perf_counter() < ends:
        started = time.perf_counter()
        for product in products:
            product()
        _wait()
        passes.append(time.perf_counter() - started)
    return 2.0 * _ROWS * layers * sum(wide * high for wide, high in shapes) / median(passes)


def _layer(model: str) -> tuple[list[tuple[int, int]], int]:
    """Inputs and outputs of a layer's four products, and the number of layers."""
    config = json.loads((Path(model) / "config.json").read_text())
    hidden, inner = int(config["hidden_size"]), int(config["intermediate_size"])
    heads = int(config["num_attention_heads"])
    size = int(config.get("head_dim") or hidden // heads)
    keys = size * int(config.get("num_key_value_heads") or heads)
    shapes = [
        (hidden, heads * size + 2 * keys),
        (heads * size, hidden),
        (hidden, 2 * inner),
        (inner, hidden),
    ]
    return shapes, int(config["num_hidden_layers"])


def _shape_rate(width: int, height: int, seconds: float) -> float:
    """The rate of the fastest product of one shape, at its best of many runs."""
    best = 0.0
    for product in _products(width, height):
        ends = time.perf_counter() + seconds
        while time.perf_counter() < ends:
            best = max(best, 2.0 * _ROWS * width * height / _duration(product))
    return best


def _products(width: int, height: int) -> list[Callable[[], object]]:
    """Products of activations of a width and a weight that gives rows of a height."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    left = torch.randn(_ROWS, width, device=device, dtype=dtype)
    right = torch.randn(height, width, device=device, dtype=dtype)
    ways: list[Callable[[], object]] = [lambda: torch.nn.functional.linear(left, right)]
    if device == "cpu" and torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        onednn: Any = torch.ops.mkldnn
        packed = onednn._reorder_linear_weight(right, _ROWS)
        ways.append(lambda: onednn._linear_pointwise(left, packed, None, "none", [], ""))
    return ways


def _duration(product: Callable[[], object], times: int = 10) -> float:
    """Seconds of one product, a mean over some."""
    started = time.perf_counter()
    for _ in range(times):
        product()
    _wait()
    return (time.perf_counter() - started) / times


def _wait() -> None:
    """Until the device has done what it was asked."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def main() -> None:
    """Prints the rates as a line of JSON."""
    model, *asked = sys.argv[1:]
    sustained = None if "--best" in asked else sustained_rate(model)
    print(Rates(best=matmul_rate(model), sustained=sustained).model_dump_json())


if __name__ == "__main__":
    main()
