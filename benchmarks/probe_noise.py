"""Which change of the weights the check of a reload notices, in each precision.

    python -m benchmarks.probe_noise

transformers on the CPU stands for both sides: one pair at a time with fused attention is the
trainer, padded batches with plain attention are the engine. Weights differ by training steps or by
noise, whose size is relative to the deviation of each tensor.
"""

from __future__ import annotations

import copy
import random
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.common.result_file import ResultFile
from engine.pools.bundled import training_pool
from engine.prompts import PromptBuilder
from engine.server.vllm.rounding import rounding
from engine.weights.models import resolve_model
from training.config.run_config import RunConfig
from training.trainer.training_rows import build_rows

N_ROWS = 8
NOISE = {
    "float32": (1e-6, 1e-5, 1e-4),
    "float16": (1e-4, 1e-3, 1e-2),
    "bfloat16": (1e-4, 1e-3, 1e-2),
}
Pairs = list[tuple[list[int], list[int]]]


def rows(folder: str) -> Pairs:
    """Training rows of real tasks, laid out as the trainer gets them."""
    config = RunConfig.model_validate({"model": {"max_model_len": 288}})
    builder = PromptBuilder(
        AutoTokenizer.from_pretrained(folder), config.score.prompt, config.model.max_model_len
    )
    pool = training_pool()
    found: Pairs = []
    for index in random.Random(0).sample(range(len(pool)), 12):
        try:
            frame = build_rows([pool[index]], builder, config, 1).frame
        except ValueError:  # every row is too long
            continue
        found += zip(
            frame["prompt_token_ids"].to_list(),
            (row[:24] for row in frame["completion_token_ids"].to_list()),
            strict=True,
        )
    return found[:N_ROWS]


def logprobs(model: Any, pairs: Pairs, batch: int) -> list[Any]:
    """Per pair the log-probabilities of its completion, in right-padded batches."""
    found = []
    for start in range(0, len(pairs), batch):
        some = pairs[start : start + batch]
        longest = max(len(prompt) + len(output) for prompt, output in some)
        ids = torch.zeros((len(some), longest), dtype=torch.long)
        mask: Any = torch.zeros_like(ids)
        for row, (prompt, output) in enumerate(some):
            ids[row, : len(prompt) + len(output)] = torch.tensor(prompt + output)
            mask[row, : len(prompt) + len(output)] = 1
        with torch.inference_mode():
            if batch == 1:
                mask = None
            logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        for row, (prompt, output) in enumerate(some):
            rows = slice(len(prompt) - 1, len(prompt) + len(output) - 1)
            table = logits[row, rows].float().log_softmax(-1)
            found.append(table.gather(1, torch.tensor(output)[:, None])[:, 0].numpy())
    return found


def collect(folder: str, precision: str) -> dict[str, Any]:
    """Log-probabilities of all pairs under each set of weights, each way."""
    torch.manual_seed(0)
    dtype = getattr(torch, precision)

    def load(attention: str) -> Any:
        model: Any = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, attn_implementation=attention
        )
        return model.eval()

    base = load("sdpa")
    fused, plain = load("sdpa").to(dtype), load("eager").to(dtype)
    own = rows(folder)
    pairs = own + [(own[i][0], own[(i + 5) % len(own)][1]) for i in range(len(own))]
    values: dict[str, Any] = {"lengths": np.array([len(o) for _, o in pairs])}

    def note(name: str, weights: Any) -> None:
        state = weights.state_dict()
        for model in (fused, plain):
            model.load_state_dict({k: v.to(dtype) for k, v in state.items()})
        values[f"{name}/trainer"] = np.concatenate(logprobs(fused, pairs, 1))
        values[f"{name}/engine"] = np.concatenate(logprobs(plain, pairs, 4))

    note("base", base)
    trained = copy.deepcopy(base)
    optimizer = torch.optim.AdamW(trained.parameters(), lr=1e-5, weight_decay=0.0)
    order = random.Random(1).sample(own, len(own)) * 3
    for step in range(10):
        optimizer.zero_grad()
        for prompt, output in order[2 * step : 2 * step + 2]:
            ids = torch.tensor([prompt + output])
            labels = torch.tensor([[-100] * len(prompt) + output])
            (trained(input_ids=ids, labels=labels).loss / 2).backward()
        optimizer.step()
        if step + 1 in (3, 10):
            note(f"{step + 1} steps at 1e-5", trained)
    for scale in NOISE[precision]:
        noisy = copy.deepcopy(base)
        with torch.no_grad():
            for parameter in noisy.parameters():
                parameter += scale * parameter.std() * torch.randn_like(parameter)
        note(f"noise {scale:g}", noisy)
    return values


def judge(values: dict[str, Any], precision: str, n_draws: int = 2000) -> list[str]:
    """A line for each set of weights: shares over draws of 8 probes, as a run chooses them."""
    rule, rng = rounding(precision), np.random.default_rng(0)
    ends = np.cumsum(values["lengths"])[:-1]
    n = len(values["lengths"]) // 2
    names = [name.split("/")[0] for name in values if name.endswith("/trainer")]
    cut = {key: np.split(values[key], ends) for key in values if "/" in key}
    chosen = [[*rng.integers(0, n, 4), *(n + rng.integers(0, n, 4))] for _ in range(n_draws)]

    def share(expected: str, measured: str, before: str) -> float:
        def some(name: str, probes: list[int]) -> list[tuple[float, ...]]:
            return [tuple(cut[name][probe].tolist()) for probe in probes]

        good = [
            rule.fault(some(expected, probes), some(measured, probes), some(before, probes)) is None
            for probes in chosen
        ]
        return float(np.mean(good))

    def mean(one: str, other: str) -> float:
        return float(np.abs(values[one] - values[other]).mean())

    lines = []
    for name in names:
        trainer, engine = f"{name}/trainer", f"{name}/engine"
        worst = np.abs(values[trainer] - values[engine]).max()
        good = share(trainer, engine, "base/engine")
        stale = share(trainer, "base/engine", "base/engine")
        told = f"{mean(trainer, 'base/trainer'):.2g} | {good:.4f} | {1 - stale:.4f}"
        lines.append(
            f"| {precision} | {name} | {mean(trainer, engine):.2g} | {worst:.2g} | {told} |"
        )
    return lines


def main() -> None:
    """Collects and judges; the table goes to `benchmarks/results/probe_noise.txt`."""
    torch.set_num_threads(1)  # several wait for one another on a busy machine
    folder = str(resolve_model("smollm2-135m"))
    lines = [
        "SmolLM2-135M; 2000 draws of 8 probes (24 tokens); nats a token",
        "",
        "| precision | new weights | engine off by | worst | change | good load accepted "
        "| load that did nothing refused |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for precision in NOISE:
        lines += judge(collect(folder, precision), precision)
    result = ResultFile("probe_noise")
    result.print("\n".join(lines))
    result.save({})


if __name__ == "__main__":
    main()
