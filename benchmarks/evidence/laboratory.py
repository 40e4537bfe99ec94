"""A model that is fine-tuned on tasks and evaluated on others, again and again, in one process."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.evidence.shared_prefix import Answering, Pack, side_by_side, train_step
from benchmarks.evidence.task_subsets import Subset
from engine.prompts import PromptBuilder
from engine.tasks import Pool
from engine.weights.models import BUNDLED_MODEL, resolve_model
from training.config.run_config import RunConfig
from training.evaluation.evaluator import Evaluator, build_evaluation_set
from training.trainer.training_rows import build_rows

ROWS_PER_PACK = 4
PACKS_PER_STEP = 3


@dataclass(frozen=True)
class Outcome:
    """One run.

    Attributes:
        run, kind, seed: See `benchmarks.evidence.task_subsets.Subset`.
        tasks: Ids of the tasks trained on; none for the base model.
        rouge_l: Mean over the held-out tasks, in [0, 100].
        exact_match: The same.
        gold_logprob: Mean over the held-out tasks of the mean log-probability of a token of the
            gold outputs, in nats; None where no model answered.
        held_out: Of each held-out task ROUGE-L, exact match and that mean.
        losses: Mean loss of each step.
        tokens: Tokens computed in training, once each.
        train_s, evaluate_s: Seconds.
        device: What it ran on.
    """

    run: int
    kind: str
    seed: int
    tasks: tuple[str, ...]
    rouge_l: float
    exact_match: float
    gold_logprob: float | None
    held_out: Mapping[str, tuple[float, float, float | None]]
    losses: tuple[float, ...]
    tokens: int
    train_s: float
    evaluate_s: float
    device: str


def laboratory_key(model: Any, *parts: str) -> str:
    """What records must have in common to be compared, as 16 hex digits: the weights as they are in
    memory, how rows are packed, and further parts.
    """
    digest = hashlib.sha256(repr((ROWS_PER_PACK, PACKS_PER_STEP, *parts)).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy())
    return digest.hexdigest()[:16]


def load_model() -> tuple[Any, Any]:
    """The bundled model in float32, on a GPU where there is one, and its tokenizer."""
    folder = resolve_model(BUNDLED_MODEL)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model.to(device)  # type: ignore[arg-type]
    model.eval()  # type: ignore[no-untyped-call]
    return model, AutoTokenizer.from_pretrained(folder)


class Laboratory:
    """The base model, trained and evaluated again and again.

    Args:
        model: A causal language model in float32, whose weights are those every run begins with.
        held_out: Tasks to evaluate on.
    """

    def __init__(self, model: Any, tokenizer: Any, config: RunConfig, held_out: Pool) -> None:
        self.model, self.config = model, config
        self.builder = PromptBuilder(tokenizer, config.score.prompt, config.model.max_model_len)
        self.base = {name: each.clone() for name, each in model.state_dict().items()}
        data = build_evaluation_set(list(held_out), self.builder, config.evaluate)
        self.evaluator = Evaluator(data, config.evaluate.max_new_tokens)
        packs = [
            Pack.of([(prompt, self.builder.completion(instance.outputs[0]))
                     for prompt, instance in zip(prompts, task.instances, strict=True)])
            for task, prompts in zip(data.tasks, data.prompts, strict=True)
        ]  # fmt: skip
        self.questions = list(zip(data.tasks, packs, strict=True))

    def packs(self, tasks: Pool, seed: int) -> list[Pack]:
        """Training rows in a drawn order, some of one task in each pack."""
        train = self.config.train.model_copy(update={"seed": seed})
        frame = build_rows(
            list(tasks), self.builder, self.config.model_copy(update={"train": train})
        ).frame
        packs = []
        for rows in frame.partition_by("task_id", maintain_order=True):
            pairs = list(zip(rows["prompt_token_ids"].to_list(),
                             rows["completion_token_ids"].to_list(), strict=True))  # fmt: skip
            packs += [
                Pack.of(pairs[at : at + ROWS_PER_PACK])
                for at in range(0, len(pairs), ROWS_PER_PACK)
            ]
        random.Random(f"packs/{seed}").shuffle(packs)
        return packs

    def train(self, packs: Sequence[Pack]) -> list[float]:
        """Fine-tunes the base model as TRL does by default, with AdamW and a linear schedule."""
        self.model.load_state_dict(self.base)
        steps = [packs[at : at + PACKS_PER_STEP] for at in range(0, len(packs), PACKS_PER_STEP)]
        rate = self.config.train.learning_rate
        optimiser = torch.optim.AdamW(
            self.model.parameters(), lr=rate, weight_decay=0.0, fused=True
        )
        losses = []
        for number, step in enumerate(steps):
            optimiser.param_groups[0]["lr"] = rate * (1 - number / len(steps))
            losses.append(train_step(self.model, optimiser, step))
        return losses

    def evaluate(self) -> dict[str, tuple[float, float, float]]:
        """ROUGE-L, exact match and gold log-probability by held-out task."""
        found = {}
        tokenizer = self.builder.tokenizer
        for group in side_by_side(self.questions):
            answering = Answering(self.model, [pack for _, pack in group], self.builder.end)
            answers = answering.run(self.config.evaluate.max_new_tokens)
            for (task, _), answer in zip(group, answers, strict=True):
                texts = [tokenizer.decode(one, skip_special_tokens=True) for one in answer.outputs]
                outputs = self.evaluator.compare(task, texts)
                found[task.id] = (
                    fmean(each.rouge_l for each in outputs),
                    100.0 * fmean(each.exact_match for each in outputs),
                    fmean(answer.gold_logprobs),
                )
        return found

    def run(self, subset: Subset, pool: Pool) -> Outcome:
        """Trains on a subset and evaluates; of no tasks the base model."""
        tasks = Pool([pool[index] for index in subset.tasks], pool.source)
        began = time.monotonic()
        packs = self.packs(tasks, subset.seed) if subset.tasks else []
        losses = self.train(packs)
        trained = time.monotonic()
        held_out = self.evaluate()
        rouge_l, exact_match, gold_logprob = (
            fmean(column) for column in zip(*held_out.values(), strict=True)
        )
        return Outcome(
            run=subset.run,
            kind=subset.kind,
            seed=subset.seed,
            tasks=tuple(task.id for task in tasks),
            rouge_l=rouge_l,
            exact_match=exact_match,
            gold_logprob=gold_logprob,
            held_out=held_out,
            losses=tuple(losses),
            tokens=sum(len(pack.tokens) for pack in packs),
            train_s=trained - began,
            evaluate_s=time.monotonic() - trained,
            device=device_name(),
        )


def device_name() -> str:
    """Of the GPU, or how many threads of the CPU."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"CPU, {torch.get_num_threads()} threads"
