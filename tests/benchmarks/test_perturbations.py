"""How rankings agree: made-up pairs, and every setting on a tiny model."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from rich.console import Console

from benchmarks import perturbations
from benchmarks.evidence import laboratory
from benchmarks.evidence import perturbation_tables as tables
from benchmarks.evidence.perturbation_tables import Grid, Halves, Interval, designs, measured
from engine.tasks import Pool
from tests.training.fakes import make_task
from tests.training.tiny import make_tiny_model, make_tokenizer


@pytest.fixture(autouse=True)
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "N_DRAWS", 8)
    monkeypatch.setattr(tables, "N_RESAMPLES", 200)


def made_up(n_tasks: int = 20, noise: float = 0.0, seed: int = 0) -> list[Grid]:
    """Tasks whose uncertainty ascends, each pair with noise of its own."""
    rng = np.random.default_rng(seed)
    grids = []
    for task in range(n_tasks):
        moves = (task + 1) / 100 * np.exp(noise * rng.normal(size=(10, 11)))
        moves[:, 0] = 0
        p = 0.5 + moves
        grids.append(Grid(p, 4 * np.log(p), (moves < 0.1).astype(float)))
    return grids


def test_measures_and_agreement() -> None:
    grids = made_up()
    assert measured(grids, "U") == pytest.approx(np.arange(1, 21) / 100)
    assert measured(grids, "P") == pytest.approx(np.full(20, 0.5))
    assert measured(grids, "log-probability") == pytest.approx(
        4 * measured(grids, "log-probability per token")
    )
    assert measured(grids, "flip rate").tolist() == [0.0] * 9 + [1.0] * 11
    found, everything = Halves(grids, "U"), np.arange(20)
    assert found.repeat(everything) == pytest.approx(1)
    assert found.overlap == 1
    up = measured(grids, "U")
    assert tables.rank_correlation(up, -up) == pytest.approx(-1)
    assert tables.overlap(up, -up, 5) == 0


def test_equal_values_are_no_agreement() -> None:
    assert np.isnan(tables.rank_correlation(np.ones(9), np.ones(9)))
    grids = [Grid(grid.p, grid.logprob, np.ones((10, 11))) for grid in made_up()]
    found = Halves(grids, "flip rate")
    assert np.isnan(found.repeat(np.arange(20)))
    assert 0.4 < found.overlap < 0.8, "12 of 20 by lot"


def test_noise_lowers_agreement_and_larger_designs_raise_it() -> None:
    grids = made_up(noise=2.0)
    assert Halves(grids, "U").repeat(np.arange(20)) < 0.95
    by_size = {(each.n, each.k): each.agreement.value for each in designs(grids)}
    assert by_size[2, 2] < by_size[5, 5]


def test_rankings_that_are_alike_but_for_noise_are_told_so() -> None:
    """The same uncertainties with noise of another draw, and those of other tasks."""
    one, same = made_up(40, noise=1.5), made_up(40, noise=1.5, seed=1)
    rng = np.random.default_rng(1)
    other = [same[at] for at in rng.permutation(40)]
    first, second, third = (Halves(grids, "U") for grids in (one, same, other))
    repeat = Interval.of(first.repeat, 40)
    assert 0.5 < repeat.low < repeat.value < repeat.high < 0.97
    alike = Interval.of(lambda tasks: first.alike(second, tasks), 40)
    assert alike.low < 1 < alike.high + 0.05
    unlike = Interval.of(lambda tasks: first.alike(third, tasks), 40)
    assert unlike.low < 0 < unlike.high < 0.6
    ratio = Interval.of(lambda tasks: first.needs(tasks) / second.needs(tasks), 40)
    assert 0.3 < ratio.low < 1 < ratio.high < 3


def test_every_setting_is_scored_and_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = make_tokenizer()
    model = make_tiny_model(tied=True, tokenizer=tokenizer, initializer_range=0.3).eval()
    monkeypatch.setattr(laboratory, "load_model", lambda: (model, tokenizer))
    texts = ("say color of sky or grass", "reverse the word that is next", "what is red and green")
    pool = Pool([make_task(f"t-{at}", text) for at, text in enumerate(texts)], "made up")
    monkeypatch.setattr(perturbations, "evidence_pool", lambda name: SimpleNamespace(pool=pool))
    monkeypatch.setattr(perturbations, "SETTINGS", dict(list(perturbations.SETTINGS.items())[:4]))
    monkeypatch.setattr(perturbations, "ASKED", {"bundled": tuple(perturbations.SETTINGS)})
    perturbations.collect("bundled", tmp_path, 600.0)
    perturbations.collect("bundled", tmp_path, 600.0)
    perturbations.write("bundled", tmp_path, tmp_path / "all.parquet")
    frame = pl.read_parquet(tmp_path / "all.parquet")
    assert frame.height == 4 * 3 * 4 * 11  # settings, tasks, instances, prompts
    assert frame["setting"].unique(maintain_order=True).to_list() == list(perturbations.SETTINGS)
    console = Console(file=io.StringIO(), record=True, width=perturbations.WIDTH)
    tables.show_settings(frame, "bundled", console, level=0.995)
    grids = tables.grids_of(frame.filter(pl.col("setting") == "defaults"))
    tables.show_measures(grids, "made up", console)
    text = console.export_text()
    assert all(name in text for name in (*perturbations.SETTINGS, "flip rate", "made up"))


def test_settings_change_what_they_say() -> None:
    configs = {name: perturbations.config_of(name) for name in perturbations.SETTINGS}
    assert len(set(map(repr, configs.values()))) == len(configs)
    assert configs["gold outputs"].reference == "gold"
    assert configs["rate 0.05"].perturbation.model_dump()["rate"] == 0.05
