from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from engine.errors import InputError
from engine.measures.compute import compute_measures
from engine.questions.output_question import OutputQuestion
from tests.training.fakes import make_disagreement, make_score
from training.run.run_folder import RunFolder
from training.tables.question_tables import row_columns, row_table
from training.tables.score_journal import ScoreJournal
from training.tables.score_tables import PAIR_COLUMNS, SCORE_COLUMNS, build_tables
from training.tables.table_files import write_parquet

SCORES = {name: make_score(name, value) for name, value in (("a", 0.1), ("b", 0.3), ("c", 0.2))}


def test_columns_are_those_of_the_contract() -> None:
    assert ", ".join(SCORE_COLUMNS) == (
        "task_id, prompt_uncertainty, standard_error, prediction_probability, perplexity, "
        "flip_rate, noise_floor, noise_error, n_instances, n_perturbations, map_category, "
        "selected, precision, weights_version"
    )
    assert ", ".join(PAIR_COLUMNS) == (
        "task_id, instance_id, perturbation, n_tokens, logprob, probability, weights_version, "
        "n_prompt_tokens, is_greedy, second_logprob"
    )


def test_parquet_files_hold_the_columns_in_pool_order(tmp_path: Path) -> None:
    tables = build_tables(SCORES.values(), ["c", "a", "b"])
    write_parquet(tmp_path / "scores.parquet", tables.scores)
    write_parquet(tmp_path / "pairs.parquet", tables.pairs)
    scores = pl.read_parquet(tmp_path / "scores.parquet")
    pairs = pl.read_parquet(tmp_path / "pairs.parquet")
    assert dict(scores.schema) == SCORE_COLUMNS
    assert dict(pairs.schema) == PAIR_COLUMNS
    assert scores["task_id"].to_list() == ["c", "a", "b"]
    assert scores["selected"].to_list() == [None] * 3, "before the selection"
    assert scores["map_category"].to_list() == ["easy", "easy", "ambiguous"]
    assert pairs.height == 9
    assert pairs["weights_version"].unique().to_list() == ["base"]
    assert {path.name for path in tmp_path.iterdir()} == {"scores.parquet", "pairs.parquet"}


def test_sampled_outputs_have_columns_and_a_table_of_their_own(tmp_path: Path) -> None:
    scores = {
        name: score.model_copy(update={"answers": make_disagreement(number)})
        for number, (name, score) in enumerate(SCORES.items())
    }
    tables = build_tables(scores.values(), ["c", "a", "b"], OutputQuestion())
    table = tables.scores
    names = ("output_disagreement", "output_disagreement_error", "output_rouge_distance")
    asked = dict.fromkeys((*names, "output_label_entropy"), pl.Float64)
    assert dict(table.schema) == SCORE_COLUMNS | asked
    assert table["output_disagreement"].to_list() == [0.5, 0, 0.25]
    errors = table["output_disagreement_error"].to_list()
    assert all(error >= 0 for error in errors)
    assert max(errors) > 0, "pooled over the tasks"
    assert table["output_label_entropy"].to_list() == [None] * 3
    samples = tables.rows
    assert samples is not None
    assert dict(samples.schema) == row_columns(OutputQuestion())
    assert ", ".join(samples.columns) == (
        "task_id, instance_id, perturbation, sample, output, label, n_tokens, finish_reason, "
        "weights_version"
    )
    assert samples["task_id"].unique(maintain_order=True).to_list() == ["c", "a", "b"]
    measured = compute_measures(samples, "samples", ["output_disagreement"])
    assert measured["output_disagreement"].to_list() == [0.5, 0, 0.25]
    assert row_table(OutputQuestion(), [SCORES["a"]]).height == 0


def test_the_journal_gives_back_what_it_was_given(tmp_path: Path) -> None:
    journal = ScoreJournal(tmp_path / "new" / "journal", "base")
    assert list(journal.scores()) == []
    with journal:
        for score in SCORES.values():
            journal.append(score)
    assert list(journal.scores()) == [*SCORES.values()]


def test_a_broken_line_in_the_middle_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    path.write_text("{}\n" + SCORES["a"].model_dump_json() + "\n")
    with pytest.raises(InputError, match=r"record line 1.*broken line"):
        list(ScoreJournal(path, "base").scores())


def test_scores_of_other_weights_do_not_count(tmp_path: Path) -> None:
    with ScoreJournal(tmp_path / "journal", "base") as journal:
        journal.append(SCORES["a"])
        journal.append(make_score("b", 0.2, version="round-00-abc"))
    assert list(ScoreJournal(tmp_path / "journal", "base").scores()) == [SCORES["a"]]


def test_round_folders_are_found_in_order(tmp_path: Path) -> None:
    for name in ("round-10", "round-02", "round-00", "rounds", "round-x"):
        (tmp_path / name).mkdir()
    assert [each.index for each in RunFolder(tmp_path).rounds()] == [0, 2, 10]
