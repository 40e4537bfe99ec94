"""What a GPU's engines are compared with.

    python -m benchmarks.gpu_stages.precision_reference GIVEN FOLDER

A child process: transformers scores the pairs in float32 and in bfloat16, one pair at a time, and
writes published checkpoints, of which some say they hold weights that they do not.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.common.checkpoints import as_trained
from benchmarks.common.pairs import BenchmarkPairs
from benchmarks.gpu_stages.precision_answer import Load, Reference, Tokens
from training.trainer.checkpoint import publish

N_PROBES = 8
"""As many as a run writes."""

STEPS, RATE = 10, 1e-5
"""Of the training: what is loaded in earnest."""


def ask(model: Any, pairs: BenchmarkPairs) -> Tokens:
    """Scores the pairs one by one."""
    logprobs, ranks = [], []
    for prompt, output in zip(pairs.prompts, pairs.outputs, strict=True):
        ids = torch.tensor([prompt + output], device=model.device)
        with torch.inference_mode():
            rows = model(ids, logits_to_keep=len(output) + 1).logits[0, :-1].float()
        table = rows.log_softmax(dim=-1)
        own = table.gather(1, torch.tensor(output, device=model.device)[:, None])
        logprobs.append(own[:, 0].tolist())
        ranks.append((table >= own).sum(dim=1).tolist())
    return Tokens(logprobs=logprobs, ranks=ranks)


def train(model: Any, pairs: BenchmarkPairs) -> Any:
    """A copy after some steps on the pairs, two a step."""
    trained = copy.deepcopy(model)
    optimizer = torch.optim.AdamW(trained.parameters(), lr=RATE, weight_decay=0.0)
    for step in range(STEPS):
        optimizer.zero_grad()
        for index in (2 * step, 2 * step + 1):
            prompt, output = (each[index % len(each)] for each in (pairs.prompts, pairs.outputs))
            ids = torch.tensor([prompt + output], device=model.device)
            labels = torch.tensor([[-100] * len(prompt) + output], device=model.device)
            (trained(input_ids=ids, labels=labels).loss / 2).backward()
        optimizer.step()
    return trained


def disturbed(model: Any, scale: float, seed: int) -> Any:
    """A copy with noise, relative to each tensor's deviation."""
    torch.manual_seed(seed)
    noisy = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in noisy.parameters():
            parameter += scale * parameter.std() * torch.randn_like(parameter)
    return noisy


class Job:
    """Where checkpoints go, and how many there are."""

    def __init__(self, model: Path, folder: Path) -> None:
        self.model = model
        self.folder = folder
        self.tokenizer: Any = AutoTokenizer.from_pretrained(model)
        self.number = 1


def write(
    name: str, held: Any, said: Any, probes: Sequence[tuple[list[int], list[int]]], job: Job
) -> Load:
    """Publishes the weights of one model with the probes of the same or of another.

    Args:
        held: Whose weights the files hold.
        said: Whose log-probabilities the manifest holds.
    """
    work, folder = job.folder / f"work-{job.number}", job.folder / f"checkpoint-{job.number}"
    held.save_pretrained(work)
    job.tokenizer.save_pretrained(work)
    result = as_trained(said, job.tokenizer, job.model, work, probes)
    manifest = publish(result, folder, round_index=job.number)
    job.number += 1
    return Load(name=name, accepted=held is said, folder=folder, version=manifest.version)


def main(given: Path, folder: Path) -> None:
    """Writes `reference.json` into the folder."""
    pairs = BenchmarkPairs.model_validate_json(given.read_bytes())
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model: Any = AutoModelForCausalLM.from_pretrained(pairs.model, dtype=torch.float32)
    model.to(device).eval()
    exact = ask(model, pairs)
    rounded = ask(copy.deepcopy(model).bfloat16(), pairs)
    own = list(zip(pairs.prompts, pairs.outputs, strict=True))
    # As a run chooses them: every second prompt with the completion of another.
    some = [own[index * len(own) // N_PROBES] for index in range(N_PROBES)]
    probes = [
        (some[index][0], some[(index + index % 2) % N_PROBES][1][:24]) for index in range(N_PROBES)
    ]
    job, trained = Job(Path(pairs.model), folder), train(model, pairs)
    wild, noisy = disturbed(model, 1.0, 1), disturbed(model, 0.05, 2)
    loads = [
        # First: the engine holds these very weights, as one whose load does nothing.
        write("a load that did nothing", model, trained, probes, job),
        write(f"trained, {STEPS} steps at {RATE:g}", trained, trained, probes, job),
        write("other weights", wild, trained, probes, job),
        write("every weight moved by 0.05 of its deviation", noisy, noisy, probes, job),
    ]
    answer = Reference(float32=exact, bfloat16=rounded, loads=loads)
    (folder / "reference.json").write_text(answer.model_dump_json())


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
