"""What every strategy promises, and what each one does."""

from __future__ import annotations

from collections import Counter
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import InputError
from training.selection import STRATEGIES, Strategy, parse_strategy, select, select_tasks
from training.selection.similarity import NgramVectors
from training.selection.strategy import largest_remainder
from training.selection.strategy_testing import check_strategy, draw_scores

SETTINGS: list[dict[str, Any]] = [
    {"name": "prompt_uncertainty"},
    {"name": "prompt_uncertainty", "direction": "low"},
    {"name": "flip_rate"},
    {"name": "output_disagreement"},
    {"name": "label_bald", "direction": "low"},
    {"name": "instruction_following_difficulty"},
    {"name": "perplexity", "direction": "high"},
    {"name": "perplexity", "direction": "low"},
    {"name": "random"},
    {"name": "column", "column": "prediction_probability", "direction": "low"},
    {"name": "map_category", "category": "ambiguous"},
    {"name": "map_category", "category": "easy", "within": "prompt_uncertainty"},
    {"name": "per_category"},
    {"name": "stratified", "column": "map_category", "when_short": "refill",
     "shares": {"easy": 0.2, "ambiguous": 0.5, "difficult": 0.3}},
    {"name": "classification_share", "when_short": "refill"},
    {"name": "diverse"},
    {"name": "diverse", "trade_off": 0.1, "column": "perplexity", "direction": "low"},
    {"name": "mix", "parts": [
        {"share": 0.5, "strategy": {"name": "map_category", "category": "easy"}},
        {"share": 0.3, "strategy": "diverse"},
        {"share": 0.2, "strategy": "random"},
    ]},
]  # fmt: skip
LEAVES_OUT = {"map_category", "instruction_following_difficulty"}
strategies = st.sampled_from([parse_strategy(values) for values in SETTINGS])


def test_every_strategy_is_tried_here() -> None:
    assert {values["name"] for values in SETTINGS} == set(STRATEGIES)


@pytest.mark.parametrize("values", SETTINGS, ids=lambda values: values["name"])
def test_every_strategy_keeps_its_promises(values: dict[str, Any]) -> None:
    check_strategy(parse_strategy(values), n_seeds=2)


@settings(deadline=None, max_examples=60)
@given(strategies, st.integers(1, 40), st.integers(1, 45), st.integers(0, 1000), st.data())
def test_no_task_twice_forced_first_excluded_never(
    strategy: Strategy, n_scored: int, n: int, seed: int, data: st.DataObject
) -> None:
    scores = draw_scores(n_scored, seed)
    ids = scores["task_id"].to_list()
    forced = data.draw(st.lists(st.sampled_from(ids), unique=True, max_size=min(3, n)))
    excluded = data.draw(st.lists(st.sampled_from(ids), unique=True, max_size=5))
    excluded = [each for each in excluded if each not in forced]
    if set(ids) == set(excluded):
        return
    try:
        chosen = select(scores, strategy, n, seed, forced=forced, excluded=excluded)
    except InputError as error:
        if strategy.name in LEAVES_OUT and "takes none of the tasks" in str(error) and not forced:
            return
        raise
    assert len(chosen.task_ids) == len(set(chosen.task_ids)) <= n
    assert chosen.task_ids[: len(forced)] == tuple(forced)
    assert [task.forced for task in chosen.tasks].count(True) == len(forced)
    assert not set(chosen.task_ids) & set(excluded)
    assert set(chosen.task_ids) <= set(ids)
    assert [task.rank for task in chosen.tasks] == list(range(1, len(chosen.tasks) + 1))
    if strategy.name not in LEAVES_OUT:
        assert len(chosen.tasks) == min(n, n_scored - len(excluded))
    assert (len(chosen.tasks) < n) == bool(chosen.notes)
    assert chosen == select(scores.reverse(), strategy, n, seed, forced=forced, excluded=excluded)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=8), st.integers(0, 500))
def test_largest_remainder_is_exact(weights: list[int], n: int) -> None:
    shares = [weight / sum(weights) for weight in weights]
    counts = largest_remainder(shares, n)
    assert sum(counts) == n
    for count, share in zip(counts, shares, strict=True):
        assert abs(count - share * n) < 1 + 1e-6
    # None with a smaller remainder was rounded up while one with a larger was rounded down.
    up = [weight * n % sum(weights) for weight, c in zip(weights, counts, strict=True)
          if c * sum(weights) > weight * n]  # fmt: skip
    down = [weight * n % sum(weights) for weight, c in zip(weights, counts, strict=True)
            if c * sum(weights) <= weight * n]  # fmt: skip
    assert not up or not down or min(up) >= max(down)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 60), st.floats(0, 1), st.integers(0, 20))
def test_strata_are_exact(n: int, share: float, n_forced: int) -> None:
    n_forced = min(n_forced, n - 1)
    scores = draw_scores(200, 1)
    forced = scores.filter(pl.col("classification"))["task_id"].to_list()[:n_forced]
    wanted = largest_remainder([share, 1 - share], n)
    strategy = parse_strategy({"name": "classification_share", "share": share})
    if n_forced > wanted[0]:
        with pytest.raises(InputError, match="forced"):
            select(scores, strategy, n, forced=forced)
        return
    chosen = select(scores, strategy, n, forced=forced).task_ids
    kinds = Counter(
        scores.filter(pl.col("task_id").is_in(list(chosen)))["classification"].to_list()
    )
    assert [kinds[True], kinds[False]] == wanted


def test_high_uncertainty_first_and_ties_by_task_id() -> None:
    scores = draw_scores(40, 3)
    rows = scores.select("prompt_uncertainty", "task_id").rows()
    high = select_tasks(scores, "prompt_uncertainty", 40, 0)
    assert list(high.task_ids) == [name for _, name in sorted(rows, key=lambda r: (-r[0], r[1]))]
    low = select(scores, parse_strategy({"name": "prompt_uncertainty", "direction": "low"}), 40)
    assert list(low.task_ids) == [name for _, name in sorted(rows)]
    assert high.tasks[0].reason == "prompt uncertainty 0.9, rank 1 of 40 from the top"
    assert high.settings == {"name": "prompt_uncertainty", "direction": "high"}


@pytest.mark.parametrize(
    ("values", "column"),
    [
        ("flip_rate", "flip_rate"),
        ({"name": "column", "column": "perplexity"}, "perplexity"),
        ({"name": "diverse", "column": "flip_rate"}, "flip_rate"),
        ({"name": "per_category", "within": "flip_rate"}, "flip_rate"),
        ({"name": "mix", "parts": [{"share": 1, "strategy": "flip_rate"}]}, "flip_rate"),
    ],
)
def test_tasks_without_a_value_to_rank_by_are_left_out(values: Any, column: str) -> None:
    known = pl.col("task_id").is_in(["task-1", "task-2", "task-3"])
    scores = draw_scores(12).with_columns(pl.when(known).then(column).alias(column))
    strategy = parse_strategy(values)
    chosen = select(scores, strategy, 5)
    assert sorted(chosen.task_ids) == ["task-1", "task-2", "task-3"]
    assert chosen.notes[-1] == "3 tasks were taken, 5 asked for: there are no more"
    if strategy.name != "mix":  # whose parts rank by other columns
        left = f"9 tasks were left out, such as task-0: their {column.replace('_', ' ')} could not"
        assert chosen.notes[0].startswith(left)
        assert chosen.n_candidates == 3
        with pytest.raises(InputError, match=rf"'{column}': no task that could be measured is"):
            select(scores.filter(~known), strategy, 5)
    not_a_number = pl.when(known).then(float("nan")).otherwise(pl.col(column)).alias(column)
    with pytest.raises(InputError, match="the score is not a number"):
        select(scores.with_columns(not_a_number), strategy, 5)


def test_random_draws_depend_on_the_seed_and_not_on_the_other_tasks() -> None:
    scores = draw_scores(10)
    all_ranked = select_tasks(scores, "random", 10, 5).task_ids
    assert select_tasks(scores, "random", 10, 6).task_ids != all_ranked
    fewer = scores.filter(pl.col("task_id") != all_ranked[0])
    assert select_tasks(fewer, "random", 9, 5).task_ids == all_ranked[1:]


def test_a_map_category_alone() -> None:
    scores = draw_scores(40, 2)
    chosen = select(scores, parse_strategy({"name": "map_category", "category": "easy"}), 40)
    easy = scores.filter(pl.col("map_category") == "easy")["task_id"].to_list()
    assert sorted(chosen.task_ids) == sorted(easy)
    assert all(task.stratum == "easy" for task in chosen.tasks)
    assert chosen.notes == (f"{len(easy)} tasks were taken, 40 asked for: there are no more",)


def test_per_category_is_as_even_as_the_categories_allow() -> None:
    scores = draw_scores(12).with_columns(category=pl.Series(list("aaaaaaabbbbc")))
    counts = Counter(task.stratum for task in select_tasks(scores, "per_category", 9, 0).tasks)
    assert counts == {"a": 4, "b": 4, "c": 1}
    by_seed = {
        tuple(sorted(str(t.stratum) for t in select_tasks(scores, "per_category", 2, s).tasks))
        for s in range(20)
    }
    assert by_seed == {("a", "b"), ("a", "c"), ("b", "c")}  # who gets one is drawn


def test_a_short_stratum_is_an_error_or_refilled() -> None:
    scores = draw_scores(20).with_columns(
        classification=pl.col("task_id").is_in(["task-1", "task-2"])
    )
    values = {"name": "classification_share", "share": 0.5}
    with pytest.raises(InputError, match=r"'true' is to have 5 of 10 tasks; .* 2 there are in all"):
        select(scores, parse_strategy(values), 10)
    chosen = select(scores, parse_strategy(values | {"when_short": "refill"}), 10)
    assert {"task-1", "task-2"} <= set(chosen.task_ids)
    assert len(chosen.tasks) == 10
    assert sum("refill" in task.reason for task in chosen.tasks) == 3


def test_what_is_chosen_within_a_group_may_leave_tasks_out() -> None:
    scores = draw_scores(40).with_columns(
        classification=pl.Series([index < 20 for index in range(40)]),
        map_category=pl.Series(["ambiguous" if index > 12 else "easy" for index in range(40)]),
    )
    within = {"name": "map_category", "category": "ambiguous"}
    values = {"name": "classification_share", "share": 0.5, "within": within}
    with pytest.raises(InputError, match=r"stratum 'true' 10 tasks .* map_category takes 7 of 20"):
        select(scores, parse_strategy(values), 20)
    values["when_short"] = "refill"
    chosen = select(scores, parse_strategy(values), 20)
    assert sum("refill" in task.reason for task in chosen.tasks) == 3
    each = parse_strategy({"name": "per_category", "column": "classification", "within": within})
    for n, expected in ((10, [5, 5]), (20, [7, 13]), (40, [7, 20])):
        chosen = select(scores, each, n)
        kinds = Counter(task.stratum for task in chosen.tasks)
        assert [kinds["true"], kinds["false"]] == expected
        assert len(chosen.notes) == (n == 40)


def test_diverse_prefers_the_unlike_and_can_be_told_not_to() -> None:
    scores = draw_scores(3).with_columns(
        prompt_uncertainty=pl.Series([0.9, 0.8, 0.79]),
        definition=pl.Series(
            ["Translate the sentence to French.", "Translate this sentence to French.",
             "Is the review positive or negative?"]
        ),
    )  # fmt: skip
    assert select_tasks(scores, "diverse", 2, 0).task_ids == ("task-0", "task-2")
    greedy = parse_strategy({"name": "diverse", "trade_off": 1})
    assert select(scores, greedy, 2).task_ids == ("task-0", "task-1")
    unlike = parse_strategy({"name": "diverse", "trade_off": 0.2})
    after = select(scores, unlike, 2, forced=["task-1"])
    assert after.task_ids == ("task-1", "task-2")


def test_similarity_is_a_cosine() -> None:
    vectors = NgramVectors(["Count the  words", "count the words", "Count the verbs", "zzz", ""])
    first = vectors.similarities(0)
    assert first[:2].tolist() == pytest.approx([1, 1])
    assert 0.2 < first[2] < 0.9
    assert first[3] == 0
    assert vectors.similarities(4)[4] == pytest.approx(1)


def test_a_mix_shares_and_passes_places_on() -> None:
    scores = draw_scores(30).with_columns(
        map_category=pl.when(pl.col("task_id") == "task-7")
        .then(pl.lit("easy"))
        .otherwise(pl.lit("difficult"))
    )
    easy = {"name": "map_category", "category": "easy"}
    parts = [{"share": 0.6, "strategy": easy}, {"share": 0.4, "strategy": "prompt_uncertainty"}]
    chosen = select(scores, parse_strategy({"name": "mix", "parts": parts}), 5)
    kinds = Counter(task.reason.split(":")[0] for task in chosen.tasks)
    assert kinds == {"map_category": 1, "prompt_uncertainty": 4}
    assert chosen.settings["parts"][0]["strategy"]["within"] == {"name": "random"}
