"""What packages offer is found as ours is, and what is wrong with it is said."""

import json
from pathlib import Path
from typing import Any, Literal

import pytest

from engine.errors import InputError
from engine.measures.measure_registry import MEASURES
from engine.perturb import PERTURBATIONS
from engine.perturb.base import Change, Shown, Step, Streams
from engine.pools.checks import Checker
from engine.pools.formats import FORMATS, InstanceFormat
from engine.pools.instances import RowParts
from engine.pools.opening import load_pool
from engine.pools.options import Columns
from engine.pools.rows import Row
from engine.prompts.builder import PromptBuilder
from engine.prompts.layouts import LAYOUTS, Layout
from engine.protocol.score_config import ScoreConfig
from engine.questions.question_registry import QUESTIONS
from engine.registry import Registry
from engine.tasks import Task
from tests.engine.examples import make_task
from tests.engine.offered import offer
from tests.engine.questions.fake_backend import FakeBackend
from tests.engine.questions.in_memory import score_all
from training.selection import STRATEGIES

ALL = [MEASURES, QUESTIONS, PERTURBATIONS, FORMATS, LAYOUTS, STRATEGIES]


@pytest.mark.parametrize("registry", ALL, ids=lambda each: each.group)
def test_what_is_wrong_with_a_package_is_said(
    registry: Registry[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for value, complaint in (
        ("no.such.package:X", "cannot be loaded: No module"),
        ("engine.errors:NO_SUCH", "cannot be loaded: module"),
        ("engine.errors:InputError", r"engine.errors:InputError is no (subclass of )?(eng|train)"),
    ):
        offer(monkeypatch, registry, value)
        with pytest.raises(InputError, match=f"{registry.group}, record own: {complaint}"):
            list(registry)
    monkeypatch.undo()
    name, taken = next(iter(registry.items()))
    offer(monkeypatch, registry, taken)
    with pytest.raises(InputError, match=f"a {registry.kind} is called '{name}' already"):
        registry.find(name)


class Upper(Step):
    """Writes the definition in capitals."""

    name: Literal["upper"] = "upper"
    times: int = 1

    def perturb(
        self, task: Task, streams: Streams, shown: Shown
    ) -> tuple[Task, tuple[Change, ...]]:
        return task.model_copy(update={"definition": task.definition.upper()}), ()


def test_a_perturbation(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, PERTURBATIONS, Upper)
    config = ScoreConfig.model_validate({"perturbation": {"name": "upper", "times": 2}})
    assert config.perturbation == Upper(times=2)
    assert ScoreConfig.model_validate_json(config.model_dump_json()) == config
    steps = [{"name": "upper"}, {"name": "typos"}]
    ScoreConfig.model_validate({"perturbation": {"name": "compose", "steps": steps}})
    (score,) = score_all([make_task()], config.model_copy(update={"n_perturbations": 1}))
    assert score.prompt_uncertainty is not None
    with pytest.raises(ValueError, match="unknown key tmes; valid here: name, times"):
        ScoreConfig.model_validate({"perturbation": {"name": "upper", "tmes": 2}})
    assert '"const": "upper"' in json.dumps(ScoreConfig.model_json_schema())


def test_a_layout(monkeypatch: pytest.MonkeyPatch) -> None:
    def text(task: Task, instance: Any, explanations: bool) -> str:
        return f"{task.definition} <{instance.input}> So:"

    offer(monkeypatch, LAYOUTS, Layout("short", text, "So:", " "))
    config = ScoreConfig.model_validate({"prompt": {"layout": "short"}})
    task = make_task()
    builder = PromptBuilder(FakeBackend().tokenizer, config.prompt, 512)
    assert builder.text(task, task.instances[0]).endswith(f"<{task.instances[0].input}> So:")


def test_a_format(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def parse(row: Row, columns: Columns, check: Checker) -> RowParts:
        asked = check.text(row.values.get("q"), "q")
        return RowParts("Answer.", asked, check.outputs(row.values.get("a"), "a"))

    own = InstanceFormat("quiz", lambda columns: ("q", "a"), parse, None)
    offer(monkeypatch, FORMATS, own)
    file = tmp_path / "quiz.jsonl"
    file.write_text('{"q": "1 + 1?", "a": "2"}\n')
    (task,) = load_pool(file)
    assert task.instances[0].outputs == ("2",)
