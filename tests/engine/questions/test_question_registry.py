"""Which questions there are, those of installed packages included, and what is said of others."""

from __future__ import annotations

import pytest

from engine.errors import InputError
from engine.protocol.score_config import ScoreConfig
from engine.questions.label_question import LabelQuestion
from engine.questions.question_registry import QUESTIONS, find_question
from engine.questions.scorer import TaskScorer
from tests.engine.offered import offer
from tests.engine.questions.fake_backend import FakeBackend
from tests.engine.questions.in_memory import design, make_tasks, score_all
from training.config.run_config import parse_config


class FirstLabel(LabelQuestion):
    table = "first_labels"
    measures = LabelQuestion.measures[1:]  # it goes by the name of its first measure


OWN = FirstLabel()


def test_a_package_may_bring_a_question(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, QUESTIONS, OWN)
    assert find_question(ScoreConfig(measure="label_entropy")) is OWN
    task = make_tasks(1)[0].model_copy(update={"labels": ("blue", "red")})
    (score,) = score_all([task], design(measure="label_entropy"))
    assert score.answers["label_entropy"].values["label_entropy"] is not None


def test_a_table_that_is_taken_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FirstLabel, "table", "labels")
    offer(monkeypatch, QUESTIONS, FirstLabel())
    with pytest.raises(InputError, match="a question has the table 'labels' already"):
        find_question(ScoreConfig(measure="label_bald"))


def test_an_unknown_name_is_refused_before_anything_starts() -> None:
    unknown = "field '{}measure': nothing called 'doubt' can be measured; valid: prompt_uncertainty"
    with pytest.raises(InputError, match=unknown.format("config.")):
        TaskScorer(FakeBackend(), ScoreConfig(measure="doubt"), "v")
    with pytest.raises(InputError, match="run.toml, " + unknown.format("score.")):
        parse_config({"score": {"measure": "doubt"}}, "run.toml")
