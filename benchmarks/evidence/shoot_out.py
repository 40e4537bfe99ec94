"""Rounds of choosing tasks by several strategies, each trained from the base model."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
import torch

from benchmarks.common.lines import append_line, read_lines
from benchmarks.evidence.laboratory import Laboratory, device_name, laboratory_key
from benchmarks.evidence.pack_scoring import ScoredTask, score_tasks
from benchmarks.evidence.task_subsets import given
from benchmarks.task_predictors import similarity
from engine.errors import InputError
from engine.measures import map_categories
from engine.measures.compute import compute_measures
from engine.tasks import Pool
from training.selection import parse_strategy, select

N_ROUNDS = 3
N_SEEDS = 5
N_PER_ROUND = 4
BASE, EVERYTHING = "base", "everything"
"""What stands beside the contestants: no task, and all tasks of the pool at once."""
SCORED_IN = torch.bfloat16
"""Precision of the layers of the copy that tasks are scored with, its logits are in float32 as
trainings and evaluations are.
"""

Asks = Literal["nothing", "originals", "pairs"]
"""What a strategy has scored before it chooses: it pays for no more."""


@dataclass(frozen=True)
class Contestant:
    """A strategy of `jostle select`, and what it asks for."""

    strategy: Mapping[str, Any]
    asks: Asks = "pairs"


def by_column(column: str, direction: str = "high", asks: Asks = "pairs") -> Contestant:
    """By any column."""
    return Contestant({"name": "column", "column": column, "direction": direction}, asks)


CONTESTANTS = {
    "random": Contestant({"name": "random"}, "nothing"),
    "prompt_uncertainty": Contestant({"name": "prompt_uncertainty"}),
    "uncertainty_given_probability": by_column("uncertainty_given_probability"),
    "flip_rate": Contestant({"name": "flip_rate"}),
    "high_perplexity": Contestant({"name": "perplexity"}, "originals"),
    "low_perplexity": Contestant({"name": "perplexity", "direction": "low"}, "originals"),
    "inverse_confidence": by_column("prediction_probability", "low", "originals"),
    "ambiguous": Contestant({"name": "map_category", "category": "ambiguous"}),
    "easy": Contestant({"name": "map_category", "category": "easy"}),
    "difficult": Contestant({"name": "map_category", "category": "difficult"}),
    "like_held_out": by_column("similarity", asks="nothing"),
}
"""Low confidence first is that of arXiv 2507.21482, the map's categories that of Kung et al.'s
figure 7; `like_held_out` knows the definitions of the held-out tasks, which no user does. The
paper's disagreement of outputs is the flip rate here, which is read off the same pairs."""


def score_table(scored: list[ScoredTask], asks: Asks, seed: int) -> pl.DataFrame:
    """A row per scored task, with all that contestants go by who ask so much.

    Args:
        seed: Decides between equal flip rates, which are many.
    """
    pairs = pl.concat([each.table() for each in scored])
    if asks == "originals":
        pairs = pairs.filter(pl.col("perturbation") == 0)
    table = compute_measures(pairs).with_columns(weights_version=pl.lit("in this process"))
    if asks == "originals":
        return table.with_columns(prompt_uncertainty=0.0)
    left = given(
        *(table[name].to_numpy() for name in ("prompt_uncertainty", "prediction_probability"))
    )
    return table.with_columns(
        flip_rate=pl.col("flip_rate") + 1e-9 * np.random.default_rng([seed, 23]).random(len(left)),
        uncertainty_given_probability=pl.Series(left),
        map_category=map_categories(table).cast(pl.String),
    )


def copy_for_scoring(model: Any) -> Any:
    """A copy whose layers compute in `SCORED_IN`; embeddings, logits and positions in float32."""
    twin = copy.deepcopy(model)
    for parameter in (*twin.model.layers.parameters(), *twin.model.norm.parameters()):
        parameter.data = parameter.data.to(SCORED_IN)
    twin.model.embed_tokens.register_forward_hook(lambda _, __, rows: rows.to(SCORED_IN))
    twin.lm_head.register_forward_pre_hook(lambda _, inputs: (inputs[0].float(),))
    return twin


class ShootOut:
    """Runs the rounds that are not known.

    Args:
        pool: What is chosen from.
        held_out: What is evaluated on.
        journal: Where rounds are written down.
        known: Rounds that have been before; those of another model, pool or design are left.
    """

    def __init__(
        self,
        laboratory: Laboratory,
        pool: Pool,
        held_out: Pool,
        journal: Path,
        known: Iterable[Mapping[str, Any]] = (),
    ) -> None:
        self.laboratory, self.pool, self.journal = laboratory, pool, journal
        self.like_held_out = similarity(pool, held_out)
        design = repr((N_ROUNDS, N_PER_ROUND, CONTESTANTS, SCORED_IN))
        self.key = laboratory_key(
            laboratory.model, laboratory.config.digest(), pool.digest(), held_out.digest(), design
        )
        self.done = {
            (record["contestant"], record["seed"], record["round"]): record
            for record in [*known, *read_lines(journal, self.key)]
            if record["key"] == self.key
        }
        self._base_scores: tuple[int, list[ScoredTask]] | None = None
        self._trained: tuple[int, list[str]] | None = None

    def rounds(
        self, contestants: list[str], n_seeds: int, part: tuple[int, int] = (1, 1)
    ) -> Iterator[tuple[str, int, int]]:
        """Of all that is not done, what comes next; seeds first, so that any end is balanced.

        Args:
            part: Which of how many processes side by side this is: each has contestants of its own.
        """
        names = [BASE, EVERYTHING, *contestants][part[0] - 1 :: part[1]]
        for seed in range(n_seeds):
            for name in names:
                n_rounds = {BASE: int(seed == 0), EVERYTHING: 1}.get(name, N_ROUNDS)
                for index in range(n_rounds):
                    if (name, seed, index) not in self.done:
                        yield name, seed, index

    def run(self, name: str, seed: int, index: int) -> dict[str, Any]:
        """One round; its record, which is in the journal then."""
        began = time.monotonic()
        record: dict[str, Any]
        if name == BASE:
            record = {"tasks": [], "scoring_tokens": 0}
        elif name == EVERYTHING:
            record = {"tasks": [task.id for task in self.pool], "scoring_tokens": 0}
        else:
            record = self._chosen(name, seed, index)
        record["training_tokens"] = self._train(record["tasks"], seed)
        names, scores = zip(*sorted(self.laboratory.evaluate().items()), strict=True)
        rouge_l, exact_match, gold_logprob = zip(*scores, strict=True)
        record = {
            "key": self.key,
            "contestant": name,
            "seed": seed,
            "round": index,
            **record,
            "held_out": names,
            "rouge_l": rouge_l,
            "exact_match": exact_match,
            "gold_logprob": gold_logprob,
            "device": device_name(),
            "seconds": time.monotonic() - began,
        }
        append_line(self.journal, record)
        self.done[name, seed, index] = record
        return record

    def _chosen(self, name: str, seed: int, index: int) -> dict[str, Any]:
        """All tasks chosen up to this round, and what choosing the last ones cost."""
        before = self.done[name, seed, index - 1]["tasks"] if index else []
        contestant = CONTESTANTS[name]
        left = Pool([task for task in self.pool if task.id not in before], self.pool.source)
        scored: list[ScoredTask] = []
        if contestant.asks == "nothing":
            ids = [task.id for task in self.pool]
            alike = dict(zip(ids, self.like_held_out, strict=True))
            table = pl.DataFrame(
                {
                    "task_id": [task.id for task in left],
                    "similarity": [alike[task.id] for task in left],
                    "prompt_uncertainty": 0.0,
                    "weights_version": "in this process",
                }
            )
        else:
            scored = self._scores(left, before, seed, perturbed=contestant.asks == "pairs")
            table = score_table(scored, contestant.asks, seed)
        strategy = parse_strategy(contestant.strategy)
        try:
            chosen = select(table, strategy, N_PER_ROUND, 1_000 * index + seed).task_ids
        except InputError:
            if strategy.name != "map_category":
                raise
            chosen = ()  # no task of the category is left
        tokens = sum(
            each.original_tokens + each.perturbed_tokens * (contestant.asks == "pairs")
            for each in scored
        )
        measured = {
            name: table[name].to_list() if scored else []
            for name in ("task_id", "prompt_uncertainty", "prediction_probability")
        }
        return {"tasks": [*before, *chosen], "scoring_tokens": tokens, "scores": measured}

    def _scores(
        self, left: Pool, before: list[str], seed: int, *, perturbed: bool
    ) -> list[ScoredTask]:
        """Of the tasks that are left, under the weights of the round before; those of the base
        model are kept for all contestants of a seed.
        """
        if not before and self._base_scores and self._base_scores[0] == seed:
            return self._base_scores[1]
        if self._trained != (seed, before):  # as after an interruption
            self._train(before, seed)
        lab = self.laboratory
        config = lab.config.score.model_copy(update={"seed": seed})
        model = copy_for_scoring(lab.model)
        scored = score_tasks(model, left, config, lab.builder, perturbed=perturbed or not before)
        if not before:
            self._base_scores = seed, scored
        return scored

    def _train(self, tasks: list[str], seed: int) -> int:
        """Fine-tunes the base model; the tokens that takes."""
        packs = self.laboratory.packs(self.pool.subset(tasks), seed) if tasks else []
        self.laboratory.train(packs)
        self._trained = seed, tasks
        return sum(len(pack.tokens) for pack in packs)
