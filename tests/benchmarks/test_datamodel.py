"""The analysis of a datamodel on outcomes that are made up: effects are found where they are."""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from rich.console import Console

from benchmarks import datamodel, task_predictors
from benchmarks.common.lines import read_lines
from benchmarks.evidence import evidence_pools
from benchmarks.evidence.datamodel_picture import draw_picture
from benchmarks.evidence.datamodel_tables import (
    PROBABILITY,
    UNCERTAINTY,
    Runs,
    show,
    verdict,
)
from benchmarks.evidence.partial_effects import Effect, best_of, spread_of_repeats
from benchmarks.evidence.task_subsets import Floats, draw, given, means
from engine.bench.repeats import t_quantile
from engine.tasks import Pool
from tests.training.tiny import make_tiny_model, make_tokenizer

N_POOL, N_TASKS = 56, 12


def pool(rng: np.random.Generator) -> tuple[Floats, Floats]:
    """U and P of tasks, correlated as in the bundled pool."""
    p = rng.normal(size=N_POOL)
    return 0.75 * p + np.sqrt(1 - 0.75**2) * rng.normal(size=N_POOL), p


def made_up(
    seed: int,
    *,
    of_u: float,
    of_p: float,
    of_tasks: float = 0.0,
    noise: float = 1.5,
    n_runs: int = 80,
) -> Runs:
    """Runs whose score U and P (per standard deviation of uniform draws), tasks and noise tell."""
    rng = np.random.default_rng(seed)
    u, p = pool(rng)
    lean = given(u, p)
    subsets = [draw(run, lean, N_TASKS) for run in range(n_runs)]
    x = [means([each.tasks for each in subsets], column) for column in (u, p)]
    own = rng.normal(size=N_POOL) * of_tasks
    score = 40 + of_u * x[0] + of_p * x[1]
    score += [own[list(each.tasks)].mean() for each in subsets]
    score += rng.normal(size=n_runs) * noise
    runs = pl.DataFrame(
        {
            "run": [each.run for each in subsets],
            "kind": [each.kind for each in subsets],
            "tasks": [[f"t{task}" for task in each.tasks] for each in subsets],
            "rouge_l": score,
            "gold_logprob": score / 100,
            "exact_match": score,
            "held_out": [["a", "bbh_logical_deduction_1", "bbh_logical_deduction_2"]] * n_runs,
            "held_out_rouge_l": [[value, value + 1, value - 1] for value in score],
            "held_out_gold_logprob": [[value / 100] * 3 for value in score],
            "train_s": [30.0] * n_runs,
            "evaluate_s": [15.0] * n_runs,
            "tokens": [5000] * n_runs,
            "device": ["CPU"] * n_runs,
        }
    )
    names = [f"t{task}" for task in range(N_POOL)]
    return Runs(runs, pl.DataFrame({"task_id": names, UNCERTAINTY: u, PROBABILITY: p}))


def test_a_planted_effect_is_found() -> None:
    runs = made_up(1, of_u=1.5, of_p=-1.0)
    effect = runs.effect(UNCERTAINTY, "rouge_l", PROBABILITY, test=True)
    assert effect.low > 0.5
    assert effect.low < 1.5 < effect.high
    assert effect.p is not None
    assert effect.p < 0.001


def test_constant_answers_are_found_by_the_name_of_their_task() -> None:
    runs = made_up(0, of_u=0.5, of_p=1.0)
    names = runs.frame["held_out"][0].to_list()
    runs.beside[-2] = {"held_out": names[::-1], "held_out_rouge_l": [90.0, 80.0, 10.0]}
    found = runs.where_constants_fail("rouge_l")
    assert found is not None
    first = np.array(runs.frame["held_out_rouge_l"].to_list())[:, 0]
    assert found[:2] == (1, 10.0)
    assert found[2] == pytest.approx(first.mean())
    assert runs.where_constants_fail("gold_logprob") is None


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (0.1, 0.4, "above 0"),
        (-0.4, -0.1, "below 0"),
        (-0.4, 0.7, "null"),
        (-0.4, 0.4, "useless (null, below 0.5)"),
    ],
)
def test_the_interval_decides_as_planned(low: float, high: float, said: str) -> None:
    assert verdict(Effect((low + high) / 2, low, high), 0.5) == said


def test_a_planted_null_is_not_found() -> None:
    """Although U alone goes with the score, through P."""
    runs = made_up(2, of_u=0.0, of_p=1.5)
    assert runs.effect(UNCERTAINTY, "rouge_l").low > 0
    effect = runs.effect(UNCERTAINTY, "rouge_l", PROBABILITY, test=True)
    assert effect.low < 0 < effect.high
    assert effect.p is not None
    assert effect.p > 0.1


@pytest.mark.slow
def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    effects = [
        made_up(seed, of_u=0.5, of_p=1.0).effect(UNCERTAINTY, "rouge_l", PROBABILITY)
        for seed in range(150)
    ]
    assert 0.90 <= np.mean([each.low <= 0.5 <= each.high for each in effects]) <= 0.99


def test_tasks_as_a_sample_widen_the_interval_only_where_tasks_differ() -> None:
    alike = made_up(3, of_u=1.0, of_p=0.0)
    unlike = made_up(3, of_u=1.0, of_p=0.0, of_tasks=6.0)
    for runs, least, most in ((alike, 0.9, 1.6), (unlike, 1.6, 4.0)):
        pool_only = runs.effect(UNCERTAINTY, "rouge_l", PROBABILITY).half_width
        sample = runs.as_sample("rouge_l", UNCERTAINTY, PROBABILITY).fixed[1].half_width
        assert least < sample / pool_only < most
    effects = unlike.as_sample("rouge_l", UNCERTAINTY, PROBABILITY)
    assert effects.low < 6.0 < effects.high
    assert effects.noise == pytest.approx(1.5, rel=0.35)
    assert alike.as_sample("rouge_l", UNCERTAINTY, PROBABILITY).low == 0.0


@pytest.mark.parametrize("seed", [7, 8, 9])
def test_the_gain_of_choosing_counts_what_comes_with_it(seed: int) -> None:
    """The most uncertain tasks differ in P as well, which here matters more."""
    runs = made_up(seed, of_u=1.0, of_p=2.0, n_runs=200)
    best = np.argsort(-runs.column(UNCERTAINTY))[: runs.n_tasks]
    u, p = (means([best.tolist()], runs.column(name))[0] for name in (UNCERTAINTY, PROBABILITY))
    higher, gain = runs.gain_of_choosing("rouge_l")
    assert higher == pytest.approx(u)
    assert gain.value == pytest.approx(
        runs.effect(UNCERTAINTY, "rouge_l", PROBABILITY).value * u
        + runs.effect(PROBABILITY, "rouge_l", UNCERTAINTY).value * p
    )
    assert gain.low < u + 2 * p < gain.high


def test_curvature_is_found_where_it_is() -> None:
    runs = made_up(4, of_u=0.0, of_p=0.0, noise=1.0)
    assert runs.curvature("rouge_l")[1] > 0.05
    bent = runs.x(UNCERTAINTY) ** 2
    rows = {row: bent[at] for at, group in enumerate(runs.of_subset.values()) for row in group}
    runs.frame = runs.frame.with_columns(
        rouge_l=pl.col("rouge_l") + pl.Series([rows[row] for row in range(runs.frame.height)])
    )
    assert runs.curvature("rouge_l")[1] < 0.01


def test_two_seeds_in_a_hundred_are_not_taken_for_tasks() -> None:
    """The share that seeds do not make has an interval, and may come out below 0."""
    nothing = [
        made_up(seed, of_u=0.0, of_p=0.0, n_runs=60).left_to_explain("rouge_l")
        for seed in range(100)
    ]
    assert np.mean([each is not None and each.low <= 0 <= each.high for each in nothing]) >= 0.88
    assert any(each is not None and each.value < 0 for each in nothing)
    much = made_up(1, of_u=5.0, of_p=5.0, n_runs=60).left_to_explain("rouge_l")
    assert much is not None
    assert much.low > 0.5


def test_held_out_tasks_of_a_family_are_one() -> None:
    runs = made_up(1, of_u=1.0, of_p=0.0)
    assert list(runs.by_held_out("rouge_l")) == ["a", "bbh_logical_deduction"]
    assert len(runs.without_each("rouge_l")) == 2
    sample = runs.held_out_as_sample("rouge_l")
    assert sample.value == pytest.approx(runs.effect(UNCERTAINTY, "rouge_l", PROBABILITY).value)


def test_an_effect_of_the_kind_of_task_is_not_one_of_uncertainty() -> None:
    """40 clones the model wavers on and 8 others: what being a clone does, U seems to do."""
    rng = np.random.default_rng(0)
    clone = np.arange(48) < 40
    u, p = clone + 0.3 * rng.normal(size=48), rng.normal(size=48)
    lean = given(u, p)
    subsets = [draw(run, lean, N_TASKS) for run in range(60)]
    score = np.array([10 * clone[list(each.tasks)].mean() for each in subsets])
    score += 0.3 * rng.normal(size=60)
    names = [f"task{at}_mmmlu_x" if clone[at] else f"task{at}_y" for at in range(48)]
    frame = pl.DataFrame(
        {
            "run": range(60),
            "kind": [each.kind for each in subsets],
            "tasks": [[names[task] for task in each.tasks] for each in subsets],
            "rouge_l": score,
        }
    )
    runs = Runs(frame, pl.DataFrame({"task_id": names, UNCERTAINTY: u, PROBABILITY: p}))
    assert runs.large_family == "mmmlu"
    assert runs.effect(UNCERTAINTY, "rouge_l", PROBABILITY).low > 0
    beside = runs.beside_family("rouge_l", "mmmlu")
    assert beside.low < 0 < beside.high
    assert made_up(1, of_u=0.0, of_p=0.0).large_family is None


def test_a_predictor_that_is_not_known_of_all_tasks_is_left_out_and_told(tmp_path: Path) -> None:
    runs = made_up(6, of_u=0.5, of_p=0.5)
    more = runs.predictors.with_columns(
        flip_rate=pl.Series([None, float("inf"), *[0.5] * (N_POOL - 2)]), alike=pl.lit(1.0)
    )
    runs = Runs(runs.frame, more)
    assert runs.names == [UNCERTAINTY, PROBABILITY]
    console = Console(record=True, width=120, file=io.StringIO())
    show(runs, console)
    assert "flip_rate is known of 54 of 56 tasks: left out" in console.export_text()


def test_repeats_tell_the_noise_of_one_run() -> None:
    seen = made_up(5, of_u=2.0, of_p=1.0, of_tasks=5.0, n_runs=200).repeats("rouge_l")
    assert seen is not None
    assert seen.low < 1.5 < seen.high
    assert seen.value == pytest.approx(1.5, rel=0.25)
    assert spread_of_repeats([[1.0], [2.0]]) is None


def test_draws_lean_and_can_be_redone() -> None:
    lean = np.random.default_rng(0).normal(size=N_POOL)
    subsets = [draw(run, lean, N_TASKS) for run in range(200)]
    assert subsets == [draw(run, lean, N_TASKS) for run in range(200)]
    assert all(len(set(each.tasks)) == N_TASKS for each in subsets)
    x = means([each.tasks for each in subsets], lean)
    by_kind = {
        kind: x[[each.kind == kind for each in subsets]]
        for kind in ("uniform", "high", "low", "repeat")
    }
    assert [len(each) for each in by_kind.values()] == [80, 40, 40, 40]
    assert abs(by_kind["uniform"].mean()) < 0.3
    assert 0.8 < by_kind["uniform"].std() < 1.2
    assert by_kind["high"].mean() > 1.5
    assert by_kind["low"].mean() < -1.5
    for block in range(40):
        *others, repeat = subsets[5 * block : 5 * block + 5]
        assert repeat.tasks in [each.tasks for each in others]
        assert len({each.seed for each in (*others, repeat)}) == 5


def test_quantiles_and_order_statistics() -> None:
    """Against tables."""
    assert t_quantile(10) == pytest.approx(2.2281, abs=2e-3)
    assert t_quantile(57) == pytest.approx(2.0025, abs=1e-4)
    drawn = np.sort(np.random.default_rng(0).normal(size=(20_000, N_POOL)), axis=1)
    assert best_of(N_POOL, N_TASKS) == pytest.approx(drawn[:, -N_TASKS:].mean(), abs=0.01)


def test_tables_and_picture_are_written(tmp_path: Path) -> None:
    runs = made_up(6, of_u=0.5, of_p=0.5)
    console = Console(record=True, width=120, file=io.StringIO())
    show(runs, console)
    draw_picture(runs, tmp_path / "runs.svg")
    text = console.export_text()
    assert "partial effect of U given P" in text
    assert ": null" in text or ": above 0" in text
    assert "more" in text
    assert "prediction_probability" in text
    assert (tmp_path / "runs.svg").read_text().startswith("<svg")


@pytest.mark.slow
def test_runs_are_kept_and_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tiny model on bundled tasks; a line that was cut off is run again."""
    tokenizer = make_tokenizer()

    def load_model() -> Any:
        return make_tiny_model(tied=True, tokenizer=tokenizer), tokenizer

    monkeypatch.setattr(datamodel, "load_model", load_model)
    monkeypatch.setattr(datamodel, "N_TASKS", 2)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(evidence_pools, "_DATA", tmp_path)
    bundled = evidence_pools.evidence_pool("bundled")
    chosen = dataclasses.replace(bundled, held_out=Pool(list(bundled.held_out)[:2], "few"))
    journal = datamodel.journal(chosen)
    datamodel.run_all(chosen, 600.0, 2)
    lines = journal.read_text().splitlines(keepends=True)
    assert [json.loads(line)["run"] for line in lines] == [-1, 0, 1]
    journal.write_text("".join(lines[:2]) + lines[2][:50])
    datamodel.write(chosen)
    assert pl.read_parquet(chosen.runs)["run"].to_list() == [-2, -1, 0]
    datamodel.run_all(chosen, 600.0, 2)
    *_, again = read_lines(journal)
    first = json.loads(lines[2])
    for name in ("run", "tasks", "seed", "losses", "rouge_l", "gold_logprob"):
        assert again[name] == first[name]
    assert first["gold_logprob"] != json.loads(lines[0])["gold_logprob"]
    datamodel.write(chosen)
    task_predictors.write(chosen, scored=False)
    with pytest.raises(SystemExit, match="2 subsets; the analysis takes 8 at least"):
        datamodel.analyse("bundled", tmp_path)
    table = pl.read_parquet(chosen.runs)
    assert table["run"].to_list() == [-2, -1, 0, 1]
    assert table["tasks"].list.len().to_list() == [0, 0, 2, 2]
    assert table["held_out_rouge_l"].list.len().to_list() == [2, 2, 2, 2]
    assert table["losses"].list.len().to_list() == [0, 0, 2, 2]
    assert table["gold_logprob"].null_count() == 1, "a constant answer has none"
    assert 0 < table["rouge_l"][0] <= 100


def test_predictors_of_every_task_are_written_once_all_are_scored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(evidence_pools, "_DATA", tmp_path)
    tokenizer = make_tokenizer()
    model = make_tiny_model(tied=True, tokenizer=tokenizer, max_position_embeddings=4096).eval()
    monkeypatch.setattr(task_predictors, "load_model", lambda: (model, tokenizer))
    bundled = evidence_pools.evidence_pool("bundled")
    chosen = dataclasses.replace(bundled, pool=Pool(list(bundled.pool)[:2], "few"))
    assert not task_predictors.collect(chosen, -1.0)
    assert task_predictors.collect(chosen, 600.0)
    task_predictors.write(chosen, scored=True)
    table = pl.read_parquet(chosen.predictors)
    assert table["task_id"].to_list() == [task.id for task in chosen.pool]
    assert table.null_count().sum_horizontal().item() == 0
    (stored, _) = chosen.stored_tasks()
    assert table["prompt_uncertainty"][0] == pytest.approx(stored.moves.mean())
    with pytest.raises(SystemExit, match="holds more: flip_rate"):
        task_predictors.write(chosen, scored=False)
    chosen.predictors.unlink()
    task_predictors.write(chosen, scored=False)
    assert set(table.columns) - set(pl.read_parquet(chosen.predictors).columns) == {
        "flip_rate",
        "gold_log_perplexity",
        "instruction_following_difficulty",
        "gold_tokens",
    }
