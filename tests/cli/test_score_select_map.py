"""score, measures, select, map: from a pool to a page, against an engine over HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from engine.design.measurement import perturbation_strength
from engine.design.ranking_columns import ranking_columns
from engine.errors import EngineError
from engine.measures.compute import compute_measures
from engine.pools import open_pool
from engine.protocol.score_config import ScoreConfig
from engine.questions.label_question import LabelQuestion
from engine.questions.output_question import OutputQuestion
from tests.engine.weights.served import SERVED
from tests.training.http_engine import HttpEngine, http_engine
from tests.training.report.page_data import page_data
from training.tables import pool_scoring
from training.tables.question_tables import row_columns
from training.tables.score_tables import PAIR_COLUMNS, SCORE_COLUMNS


@pytest.fixture
def engine() -> Iterator[HttpEngine]:
    with http_engine() as running:
        yield running


DESIGN = ("--instances", 3, "--perturbations", 2, "--seed", 5)


def test_from_a_pool_to_a_page(jostle: Any, engine: HttpEngine, pool: Path, tmp_path: Path) -> None:
    scores = tmp_path / "scores.parquet"
    code, shown = jostle("score", pool, "-o", scores, "--url", engine.url, *DESIGN)
    assert code == 0, shown
    assert "20 tasks, 180 pairs" in shown
    table = pl.read_parquet(scores)
    pairs = pl.read_parquet(tmp_path / "scores.pairs.parquet")
    assert dict(pairs.schema) == PAIR_COLUMNS
    assert pairs.height == 180
    assert table.columns[: len(SCORE_COLUMNS)] == list(SCORE_COLUMNS)
    assert table.columns[-3:] == ["category", "classification", "definition"]
    assert table["task_id"].to_list() == [f"seed_task_{index}" for index in range(20)]
    assert table["classification"].to_list() == [index < 8 for index in range(20)]
    measured = compute_measures(pairs)
    for name in measured.columns[1:]:  # what the server says and what its pairs say is the same
        assert table[name].to_list() == pytest.approx(measured[name].to_list(), abs=1e-12)

    assisted = ("--strategy", "column", "--set", "column=ranking_estimate")
    code, shown = jostle("select", scores, *assisted, "-n", 5, "-o", tmp_path / "assisted.txt")
    assert code == 0, shown
    by_estimate = table.sort("ranking_estimate", descending=True)["task_id"].to_list()
    assert (tmp_path / "assisted.txt").read_text().split() == by_estimate[:5]

    chosen = tmp_path / "selected.txt"
    share = ("--strategy", "classification_share", "--set", "share=0.25")
    code, shown = jostle("select", scores, *share, "-n", 8, "-o", chosen)
    assert code == 0, shown
    ids = chosen.read_text().split()
    assert len(set(ids)) == 8
    assert sum(table.filter(pl.col("task_id").is_in(ids))["classification"]) == 2
    why = json.loads((tmp_path / "selected.selection.json").read_text())
    assert [task["task_id"] for task in why["tasks"]] == ids
    assert why["settings"]["share"] == 0.25
    assert why["tasks"][0]["stratum"] == "true"

    for name in ("map.html", "map.png"):
        code, shown = jostle("map", scores, "-o", tmp_path / name, "--selected", chosen)
        assert code == 0, shown
        assert "20 tasks change category in over a tenth of 200 bootstrap replicates" in shown
        assert "note: of" not in shown
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")
    data = page_data(tmp_path / "map.html")
    tasks = data["tasks"]["id"]
    assert tasks == table["task_id"].to_list()
    (only,) = data["rounds"]
    assert [tasks[place] for place in only["selected"]] == ids
    assert data["tasks"]["definition"][3] == "Say </script><b>which</b> of 3 things is blue & why."
    details = page_data(tmp_path / "map.html", "details-0")[0]
    assert len(details["0"]["pairs"]) == 9


@pytest.mark.parametrize(("n", "k"), [(1, 2), (2, 1)])
def test_a_single_instance_or_perturbation_is_told_beside_the_stability(
    n: int, k: int, jostle: Any, engine: HttpEngine, pool: Path, tmp_path: Path
) -> None:
    scores, design = tmp_path / "s.parquet", ("--instances", n, "--perturbations", k)
    code, shown = jostle("score", pool, "-o", scores, "--url", engine.url, *design)
    assert code == 0, shown
    code, shown = jostle("map", scores, "-o", tmp_path / "map.html", "--replicates", 5)
    assert code == 0, shown
    assert "note: of 20 tasks only one instance or one perturbation was scored; what" in shown


def test_how_sure_a_selection_is_goes_by_its_candidates(jostle: Any, tmp_path: Path) -> None:
    scores, chosen = tmp_path / "scores.parquet", tmp_path / "chosen.txt"
    values = {"prompt_uncertainty": [0.6, 0.5, 0.4, 0.3, 0.2], "standard_error": 1e-3}
    table = pl.DataFrame({"task_id": list("abcde"), **values, "weights_version": "v"})
    table.write_parquet(scores)
    code, shown = jostle("select", scores, "-n", 2, "-o", chosen, "--exclude", "a")
    assert code == 0, shown
    assert chosen.read_text().split() == ["b", "c"]
    assert "a repeat would pick about 2.0 of these 2 again, chance alone 1.0" in shown


def test_a_table_that_holds_no_pairs_is_told(jostle: Any, tmp_path: Path) -> None:
    scores, other = tmp_path / "scores.parquet", tmp_path / "pairs.parquet"
    measured = {"prompt_uncertainty": [0.1, 0.2], "prediction_probability": [0.5, 0.6]}
    pl.DataFrame({"task_id": ["a", "b"], **measured}).write_parquet(scores)
    table = pl.DataFrame({"prompt": ["p"], "completion": ["c"]})
    for lacking in ("task_id", "instance_id"):
        table.write_parquet(other)
        code, shown = jostle("map", scores, "-o", tmp_path / "map.html")
        told = f"pairs.parquet, field '{lacking}': the column is missing; there are prompt, "
        assert (code, told in shown) == (2, True), shown
        table = table.with_columns(task_id=pl.lit("a"))
    own = scores.rename(tmp_path / "own.parquet")
    code, shown = jostle("map", own, "-o", tmp_path / "map.html")
    assert code == 0, "pairs.parquet beside it are those of scores.parquet"
    code, shown = jostle("map", own, "-o", tmp_path / "other.html", "--pairs", other)
    assert (code, "pairs.parquet, field" in shown) == (2, True), shown


def test_a_scoring_that_is_done_is_done_whatever_becomes_of_the_engine(
    jostle: Any, engine: HttpEngine, pool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = pool_scoring.score_pool

    def score_pool(*args: Any, **options: Any) -> pl.DataFrame:
        table = real(*args, **options)
        monkeypatch.setattr("engine.client.EngineClient.weights", gone)
        return table

    def gone(_: object) -> None:
        raise EngineError("connection refused")

    monkeypatch.setattr(pool_scoring, "score_pool", score_pool)
    code, shown = jostle("score", pool, "-o", tmp_path / "s.parquet", "--url", engine.url, *DESIGN)
    assert code == 0, shown


def test_steps_of_a_scoring_begin_and_end(
    jostle: Any, engine: HttpEngine, pool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOSTLE_PROGRESS", "json")
    code, shown = jostle("score", pool, "-o", tmp_path / "s.parquet", "--url", engine.url, *DESIGN)
    assert code == 0, shown
    events = [json.loads(line) for line in shown.splitlines() if line.startswith("{")]
    assert next(event["event"] for event in events if "step" in event) == "begin"
    (end,) = [event for event in events if event["event"] == "end"]
    assert (end["step"], end["summary"]) == ("score", "20 tasks")


@pytest.mark.parametrize("words", [("score",), ("race", "-n", 2, "--budget", 9_000)])
def test_what_costs_least_is_looked_at_first(
    words: tuple[Any, ...], jostle: Any, pool: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def find(_: object) -> None:
        pytest.fail("looked for the model")

    monkeypatch.setattr("engine.weights.models.resolve_model", find)
    with pool.open("a") as stream:
        stream.write('{"id": "faulty"}\n')
    there = tmp_path / "there.parquet"
    there.touch()
    code, shown = jostle(*words, pool, "-o", there)
    assert (code, "there.parquet: is there already" in shown) == (2, True), shown
    code, shown = jostle(*words, pool, "-o", tmp_path / "new.parquet")
    assert (code, "seed_tasks.jsonl, record" in shown) == (2, True), shown


def test_ranking_estimates_know_how_strong_the_perturbations_were(
    jostle: Any, engine: HttpEngine, pool: Path, tmp_path: Path
) -> None:
    scores = tmp_path / "scores.parquet"
    assert jostle("score", pool, "-o", scores, "--url", engine.url, *DESIGN)[0] == 0
    pairs = pl.read_parquet(tmp_path / "scores.pairs.parquet")
    config = ScoreConfig(n_instances=3, n_perturbations=2, seed=5)
    strengths = {task.id: perturbation_strength(task, config) for task in open_pool(str(pool))}
    found = pl.read_parquet(scores)["ranking_estimate"].to_list()
    assert found == ranking_columns(pairs, strengths)["ranking_estimate"].to_list()
    assert found != ranking_columns(pairs)["ranking_estimate"].to_list()


def test_an_incomplete_design_from_a_pool_to_a_page(
    jostle: Any, engine: HttpEngine, pool: Path, tmp_path: Path
) -> None:
    scores = tmp_path / "scores.parquet"
    some = ("--instances", 6, "--perturbations", 4, "--instances-per-perturbation", 2)
    code, shown = jostle("score", pool, "-o", scores, "--url", engine.url, *some)
    assert code == 0, shown
    # 6 originals and 4 x 2 pairs of 8 tasks, 3 and 4 x 2 of the 12 that have 3 instances only.
    assert f"20 tasks, {8 * 14 + 12 * 11} pairs" in shown
    pairs = pl.read_parquet(tmp_path / "scores.pairs.parquet")
    assert pairs.height == 8 * 14 + 12 * 11
    table = pl.read_parquet(scores)
    for name in ("standard_error", "ranking_estimate"):
        assert table.filter(pl.col(name) > 0).height == 20
    code, shown = jostle("map", scores, "-o", tmp_path / "map.html")
    assert code == 0, shown
    too_few = ("--instances", 6, "--perturbations", 4, "--instances-per-perturbation", 1)
    code, shown = jostle("score", pool, "-o", tmp_path / "x.parquet", "--url", engine.url, *too_few)
    assert code == 2
    assert "4 perturbed pairs leave some of 6 instances without any" in shown


def test_an_engine_is_started_where_none_is_named(
    jostle: Any, engine: HttpEngine, pool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    class Process:
        url = engine.url

        @classmethod
        def start(cls, model: str, **options: Any) -> Process:
            seen.append((model, options))
            return cls()

        def wait_ready(self, on_wait: Any) -> None:
            on_wait(1.0)

        def stop(self) -> None:
            seen.append("stop")

    monkeypatch.setattr("training.commands.launch.EngineProcess", Process)
    monkeypatch.setattr("engine.weights.models.resolve_model", lambda name: f"folder of {name}")
    words = ("score", pool, "-o", tmp_path / "s.parquet", "--model", "m", "--max-model-len", 128)
    code, shown = jostle(*words, *DESIGN)
    assert code == 0, shown
    assert "start the engine" in shown
    (model, options), stopped = seen
    assert (model, stopped) == ("folder of m", "stop")
    assert options["weights_root"] is None
    assert options["log_file"] == tmp_path / "s.engine.log"
    assert options["extra_args"] == ("--max-model-len=128", "--trust-request-chat-template")


def test_sampled_outputs_from_a_pool_to_a_selection(
    jostle: Any, engine: HttpEngine, pool: Path, tmp_path: Path
) -> None:
    scores = tmp_path / "scores.parquet"
    sampling = ("--measure", "output_disagreement", "--samples", 4, "--temperature", 0.7)
    code, shown = jostle("score", pool, "-o", scores, "--url", engine.url, *DESIGN, *sampling)
    assert code == 0, shown
    assert "20 tasks, 180 pairs, 720 samples" in shown
    assert "scores.samples.parquet: mean output disagreement 0." in shown
    settings = json.loads((tmp_path / "scores.settings.json").read_text())["config"]
    assert settings["sampling"] == {"n_samples": 4, "temperature": 0.7, "top_p": 1.0}
    table = pl.read_parquet(scores)
    assert table.columns[: len(SCORE_COLUMNS) + 4] == [
        *SCORE_COLUMNS,
        "output_disagreement",
        "output_disagreement_error",
        "output_rouge_distance",
        "output_label_entropy",
    ]
    samples = pl.read_parquet(tmp_path / "scores.samples.parquet")
    assert dict(samples.schema) == row_columns(OutputQuestion())
    assert samples.height == 720
    measured = compute_measures(samples, "samples")
    assert "self_consistency" in measured.columns
    for name in measured.columns[1:]:
        assert table[name].to_list() == pytest.approx(measured[name].to_list(), abs=1e-12)
    code, shown = jostle("measures", tmp_path / "scores.samples.parquet", "--needs", "samples")
    assert code == 0, shown

    chosen = tmp_path / "selected.txt"
    strategy = ("--strategy", "output_disagreement", "-n", 3, "-o", chosen)
    code, shown = jostle("select", scores, *strategy)
    assert code == 0, shown
    assert "output disagreement 0." in shown
    best = table.sort("output_disagreement", descending=True)["output_disagreement"][:3]
    taken = table.filter(pl.col("task_id").is_in(chosen.read_text().split()))
    assert sorted(taken["output_disagreement"]) == sorted(best)

    plain = tmp_path / "plain.parquet"
    assert jostle("score", pool, "-o", plain, "--url", engine.url, *DESIGN)[0] == 0
    assert not (tmp_path / "plain.samples.parquet").exists()
    again = ("--strategy", "output_disagreement", "-n", 3, "-o", tmp_path / "again.txt")
    code, shown = jostle("select", plain, *again)
    assert code == 2
    assert "field 'output_disagreement': the column is missing" in shown


def test_labels_from_a_pool_to_a_selection(jostle: Any, engine: HttpEngine, tmp_path: Path) -> None:
    pool, scores, chosen = (tmp_path / name for name in ("p.jsonl", "s.parquet", "c.txt"))
    rows = [
        {
            "id": f"t{index}",
            "definition": f"Which of {index}?",
            "labels": ["yes", "no"],
            "instances": [{"id": str(n), "input": f"{n}", "outputs": ["no"]} for n in range(3)],
        }
        for index in range(4)
    ]
    pool.write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = ("score", pool, "-o", scores, "--url", engine.url, *DESIGN, "--perturbations", 3)
    code, shown = jostle(*command, "--measure", "label_bald")
    assert code == 0, shown
    assert "4 tasks, 144 pairs\n" in shown
    assert "s.labels.parquet: mean label bald 0." in shown
    table = pl.read_parquet(scores)
    assert table.columns[len(SCORE_COLUMNS) :][:3] == [
        "label_bald",
        "label_bald_error",
        "label_entropy",
    ]
    labels = pl.read_parquet(tmp_path / "s.labels.parquet")
    assert dict(labels.schema) == row_columns(LabelQuestion())
    assert labels.height == 4 * 3 * 4 * 2
    measured = compute_measures(labels, "label_probabilities")
    for name in ("label_bald", "label_entropy"):
        assert table[name].to_list() == pytest.approx(measured[name].to_list(), abs=1e-12)
    assert all(error > 0 for error in table["label_bald_error"])
    code, shown = jostle("select", scores, "--strategy", "label_bald", "-n", 1, "-o", chosen)
    assert code == 0, shown
    best = table.sort("label_bald", descending=True)["task_id"][0]
    assert chosen.read_text().split() == [best]
    jostle(*command, "--overwrite")
    assert not (tmp_path / "s.labels.parquet").exists()


def test_a_design_needs_its_budget(
    jostle: Any, engine: HttpEngine, pool: Path, tmp_path: Path
) -> None:
    command = ("score", pool, "-o", tmp_path / "scores.parquet", "--url", engine.url)
    for words in (("--design", "auto"), ("--budget", 1000), ("--design", "best", "--budget", 9)):
        code, shown = jostle(*command, *words)
        assert code != 0
        assert "--design auto and --budget TOKENS go together" in shown
    both = ("--design", "auto", "--budget", 99_999, "--measure", "output_disagreement")
    code, shown = jostle(*command, *both)
    assert code == 2
    assert "does not count what output_disagreement takes on top" in shown
    lost = ("--design", "auto", "--budget", 99_999, "--earlier", tmp_path / "lost.parquet")
    code, shown = jostle(*command, *lost)
    assert code == 2
    assert "lost.parquet: no such file" in shown


@pytest.mark.parametrize(
    ("dtype", "last"),
    [
        ("float32", "s.pairs.parquet: their pairs"),
        ("bfloat16", "bfloat16: probabilities are good to about 0.02"),
        ("float32, tf32", "float32, tf32: probabilities are good to about 0.002"),
    ],
)
def test_scores_say_how_exact_they_are(
    jostle: Any, engine: HttpEngine, pool: Path, tmp_path: Path, dtype: str, last: str
) -> None:
    engine.served = SERVED.model_copy(update={"dtype": dtype})
    code, shown = jostle("score", pool, "-o", tmp_path / "s.parquet", "--url", engine.url, *DESIGN)
    assert code == 0, shown
    assert shown.split("\n20 tasks, ")[0].endswith(last), "the last line of stdout"
    assert dtype in (tmp_path / "s.settings.json").read_text()


@pytest.mark.slow
def test_a_scoring_that_broke_off_goes_on(
    jostle: Any, engine: HttpEngine, pool: Path, tmp_path: Path
) -> None:
    scores = tmp_path / "scores.parquet"
    command = ("score", pool, "-o", scores, "--url", engine.url, *DESIGN)
    engine.fail_after = 7
    code, shown = jostle(*command)
    assert code == 1
    assert "the engine answered 500: out of order" in shown
    assert not scores.exists()

    code, shown = jostle(*command[:-1], 6)
    assert code == 2
    assert "an unfinished scoring with another config is there; --overwrite" in shown
    engine.version = "round-00-abc"
    assert jostle(*command)[0] == 2
    engine.version = "base"

    engine.fail_after = None
    engine.scored.clear()
    assert jostle(*command)[0] == 0
    assert engine.scored == [f"seed_task_{index}" for index in range(7, 20)]
    at_once = tmp_path / "at_once.parquet"
    assert jostle("score", pool, "-o", at_once, "--url", engine.url, *DESIGN)[0] == 0
    assert pl.read_parquet(scores).equals(pl.read_parquet(at_once))

    code, shown = jostle(*command)
    assert code == 2
    assert "is there already; --overwrite replaces it" in shown
    engine.scored.clear()
    assert jostle(*command, "--overwrite")[0] == 0
    assert len(engine.scored) == 20


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"weights": "3" * 64}, "other weights"),
        ({"max_model_len": 4096}, "max_model_len 2048 and 4096"),
        ({"dtype": "bfloat16, fp8_e4m3 cache"}, "dtype float32 and bfloat16, fp8_e4m3 cache"),
        ({"tokenizer": "3" * 64}, "tokenizer 222222222222 and 333333333333"),
        ({"chat_template": "3" * 64}, "chat_template none and 333333333333"),
    ],
)
@pytest.mark.parametrize("reloaded", [False, True])
def test_a_scoring_is_not_gone_on_with_by_another_model(
    jostle: Any,
    engine: HttpEngine,
    pool: Path,
    tmp_path: Path,
    change: dict[str, Any],
    said: str,
    reloaded: bool,
) -> None:
    engine.version = "round-00-abc" if reloaded else SERVED.version
    command = ("score", pool, "-o", tmp_path / "s.parquet", "--url", engine.url, *DESIGN)
    engine.fail_after = 7
    assert jostle(*command)[0] == 1
    engine.fail_after = None
    engine.served = SERVED.model_copy(update={"model": "other/model", **change})
    engine.version = "round-00-abc" if reloaded else engine.served.version
    code, shown = jostle(*command)
    if reloaded and "weights" in change:  # those of the start are not live any more
        assert code == 0, shown
        return
    assert code == 2
    assert f"some/model ({'round-00-abc' if reloaded else SERVED.version})" in shown
    assert f"other/model ({engine.version}): {said}" in shown
    assert jostle(*command, "--overwrite")[0] == 0
    assert pl.read_parquet(tmp_path / "s.parquet")["weights_version"].unique().to_list() == [
        engine.version
    ]


def test_an_unfinished_scoring_of_an_older_form_is_refused(
    jostle: Any, engine: HttpEngine, pool: Path, tmp_path: Path
) -> None:
    command = ("score", pool, "-o", tmp_path / "s.parquet", "--url", engine.url, *DESIGN)
    engine.fail_after = 7
    assert jostle(*command)[0] == 1
    settings = tmp_path / "s.settings.json"
    old = json.loads(settings.read_text())
    old |= {"model": "some/model", "weights_version": "base"}
    del old["weights"]
    settings.write_text(json.dumps(old))
    code, shown = jostle(*command)
    assert code == 2
    assert "s.settings.json" in shown
    assert "an unfinished scoring of another form is there" in shown


def test_gold_scores_carry_gold_measures(
    jostle: Any, engine: HttpEngine, pool: Path, tmp_path: Path
) -> None:
    scores = tmp_path / "gold.parquet"
    assert jostle("score", pool, "-o", scores, "--url", engine.url, "--gold", *DESIGN)[0] == 0
    table = pl.read_parquet(scores)
    assert "gold_perplexity" in table.columns
    assert "prompt_uncertainty_std" not in table.columns


def test_measures_without_scoring_anew(
    jostle: Any, engine: HttpEngine, pool: Path, tmp_path: Path
) -> None:
    scores = tmp_path / "scores.parquet"
    jostle("score", pool, "-o", scores, "--url", engine.url, *DESIGN)
    engine.scored.clear()
    pairs = tmp_path / "scores.pairs.parquet"
    before = pl.read_parquet(scores)
    before.drop("prompt_uncertainty_max").write_parquet(scores)
    code, shown = jostle("measures", pairs, "--measure", "prompt_uncertainty_max", "--into", scores)
    assert code == 0, shown
    after = pl.read_parquet(scores)
    assert after.select(before.columns).equals(before)
    other = tmp_path / "other.pairs.parquet"
    pl.read_parquet(pairs).with_columns(weights_version=pl.lit("trained")).write_parquet(other)
    code, shown = jostle("measures", other, "--into", scores, "--overwrite")
    assert code == 2
    assert "field 'weights_version': holds pairs of other weights than" in shown
    assert pl.read_parquet(scores).equals(after)
    assert jostle("measures", pairs, "-o", tmp_path / "m.parquet")[0] == 0
    assert pl.read_parquet(tmp_path / "m.parquet").height == 20
    again = ("--measure", "perplexity", "--into", tmp_path / "m.parquet", "--overwrite")
    assert jostle("measures", pairs, *again)[0] == 0, "it does not say whose it is"
    code, shown = jostle("measures", pairs, "--measure", "perplexity")
    assert shown.startswith("task_id,perplexity\nseed_task_0,")
    assert not engine.scored
    own = ("--strategy", "column", "--set", "column=prompt_uncertainty_max")
    assert jostle("select", scores, *own, "-n", 3, "-o", tmp_path / "s.txt")[0] == 0


def test_listings(jostle: Any) -> None:
    code, shown = jostle("measures")
    assert code == 0
    assert "U = mean over i, j >= 1 of |p(i, j) - p(i, 0)|" in shown
    assert "Kung et al. (2023)" in shown
    code, shown = jostle("strategies")
    assert code == 0
    assert "classification_share\n" in shown
    assert "share: 0.356 by default" in shown


def test_faulty_tasks_are_left_out_and_listed_if_asked_for(
    jostle: Any, engine: HttpEngine, pool: Path, tmp_path: Path
) -> None:
    engine.faulty = "seed_task_4"
    scores = tmp_path / "scores.parquet"
    code, shown = jostle("score", pool, "-o", scores, "--url", engine.url, "--skip-faulty", *DESIGN)
    assert code == 0
    assert "scores.skipped.jsonl: 1 record(s) left out, and why" in shown
    assert "seed_task_4" not in pl.read_parquet(scores)["task_id"]
    (line,) = (tmp_path / "scores.skipped.jsonl").read_text().splitlines()
    assert json.loads(line) == {
        "file": None,
        "record": "seed_task_4",
        "field": "input",
        "reason": "too long",
    }


def test_what_cannot_be_read_is_left_out_and_listed_if_asked_for(
    jostle: Any, engine: HttpEngine, pool: Path, tmp_path: Path
) -> None:
    lines = pool.read_text().splitlines(keepends=True)
    lines[2] = '{"id": "seed_task_2"\n'
    lines[5] = lines[5].replace('"input"', '"inputs"', 1)
    lines[7] = lines[6]
    pool.write_text("".join(lines))
    scores = tmp_path / "scores.parquet"
    command = ("score", pool, "-o", scores, "--url", engine.url, *DESIGN)
    code, shown = jostle(*command)
    assert code == 2
    assert "record line 3: not JSON" in shown
    assert not engine.scored
    code, shown = jostle(*command, "--skip-faulty")
    assert code == 0, shown
    assert "scores.skipped.jsonl: 3 record(s) left out, and why" in shown
    assert pl.read_parquet(scores).height == 17
    listed = [json.loads(line) for line in (tmp_path / "scores.skipped.jsonl").open()]
    assert [(one["record"], one["field"]) for one in listed] == [
        ("line 3", None),
        ("line 6, instances[0]", "input"),
        ("line 8", "id"),
    ]
    assert {one["file"] for one in listed} == {str(pool)}
    written = tmp_path / "tasks.jsonl"
    assert jostle("pool", "convert", pool, written)[0] == 2
    assert not written.exists()
    code, shown = jostle("pool", "convert", pool, written, "--skip-faulty")
    assert code == 0, shown
    assert len(written.read_text().splitlines()) == 17
    assert (tmp_path / "tasks.skipped.jsonl").read_text().count("\n") == 3
    code, shown = jostle("pool", "validate", written)
    assert code == 0, shown


def test_gold_outputs_that_are_missing_leave_a_task_out_if_asked_for(
    jostle: Any, engine: HttpEngine, pool: Path, tmp_path: Path
) -> None:
    rows = [json.loads(line) for line in pool.read_text().splitlines()]
    for instance in rows[3]["instances"]:
        instance["output"] = ""
    pool.write_text("".join(json.dumps(row) + "\n" for row in rows))
    scores = tmp_path / "scores.parquet"
    command = ("score", pool, "-o", scores, "--url", engine.url, "--gold", *DESIGN)
    assert jostle(*command)[0] == 2
    code, shown = jostle(*command, "--skip-faulty")
    assert code == 0, shown
    assert pl.read_parquet(scores).height == 19
    (line,) = (tmp_path / "scores.skipped.jsonl").read_text().splitlines()
    assert json.loads(line)["reason"] == "has no gold output to score"
    pool.write_text(json.dumps(rows[3]) + "\n")
    code, shown = jostle(*command, "--skip-faulty", "--overwrite")
    assert code == 2
    assert "holds no task that is in order; the first fault" in shown
