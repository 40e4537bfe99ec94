"""What probes differ by in half precision, and what the check of a reload makes of it.

    python -m benchmarks.probe_noise

transformers in bfloat16 on the CPU stands for both sides: one pair at a time with fused attention
is the trainer, padded batches with plain attention are the engine. Weights differ by training steps
or by noise.
"""

from __future__ import annotations

import copy
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from engine.pools.bundled import training_pool
from engine.prompts import PromptBuilder
from engine.server.vllm.rounding import rounding
from engine.weights.models import resolve_model
from training.config.run_config import RunConfig
from training.trainer.training_rows import build_rows

N_ROWS = 8
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


def collect(folder: str) -> dict[str, Any]:
    """Log-probabilities of all pairs under each set of weights, each way."""
    torch.manual_seed(0)

    def load(attention: str) -> Any:
        model: Any = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, attn_implementation=attention
        )
        return model.eval()

    base = load("sdpa")
    fused, plain = load("sdpa").bfloat16(), load("eager").bfloat16()
    own = rows(folder)
    swapped = [(own[i][0], own[(i + 5) % len(own)][1]) for i in range(len(own))]
    greedy = []
    for prompt, _ in own:
        ids = torch.tensor([prompt])
        with torch.inference_mode():
            made = fused.generate(ids, max_new_tokens=8, do_sample=False)[0, len(prompt) :]
        greedy.append((prompt, made.tolist()))
    pairs = own + swapped + greedy
    values: dict[str, Any] = {"lengths": np.array([len(o) for _, o in pairs])}

    def note(name: str, weights: Any) -> None:
        state = weights.state_dict()
        for model in (fused, plain):
            model.load_state_dict({k: v.to(torch.bfloat16) for k, v in state.items()})
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
    for scale in (1e-3, 1e-2, 1e-4):
        noisy = copy.deepcopy(base)
        with torch.no_grad():
            for parameter in noisy.parameters():
                parameter += scale * parameter.std() * torch.randn_like(parameter)
        note(f"noise {scale:g} of each tensor's deviation", noisy)
    return values


def judge(values: dict[str, Any], n_draws: int = 2000) -> str:
    """Shares of loads that are accepted, over draws of 8 probes, as a run chooses them."""
    rule, rng = rounding("bfloat16"), np.random.default_rng(0)
    ends = np.cumsum(values["lengths"])[:-1]
    n = len(values["lengths"]) // 3
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

    own = slice(0, 2 * n)

    def mean(one: str, other: str) -> float:
        pairs = zip(cut[one][own], cut[other][own], strict=True)
        return float(np.abs(np.concatenate([a - b for a, b in pairs])).mean())

    lines = [
        f"{n_draws} draws of 8 probes ({sum(values['lengths'][own]) / 2 / n * 8:.0f} tokens)",
        "",
        "| new weights | engine off by | worst | change | accepted: good load "
        "| no token off by 0.25 | load that did nothing |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name in names:
        trainer, engine = f"{name}/trainer", f"{name}/engine"
        noise = [a - b for a, b in zip(cut[trainer][own], cut[engine][own], strict=True)]
        tops = [np.abs(each).max() for each in noise]
        worst = max(tops)
        good = share(trainer, engine, "base/engine")
        stale = share(trainer, "base/engine", "base/engine")
        strict = np.mean([max(tops[probe] for probe in probes) <= 0.25 for probes in chosen])
        told = f"{mean(trainer, 'base/trainer'):.3f} | {good:.4f} | {strict:.4f} | {stale:.4f}"
        lines.append(f"| {name} | {mean(trainer, engine):.3f} | {worst:.2f} | {told} |")
    return "\n".join(lines)


def main() -> None:
    """Collects and judges; the table goes to `benchmarks/results/probe_noise.txt`."""
    torch.set_num_threads(1)  # several wait for one another on a busy machine
    table = judge(collect(str(resolve_model("smollm2-135m"))))
    print(table)
    Path("benchmarks/results/probe_noise.txt").write_text(table + "\n")


if __name__ == "__main__":
    main()
