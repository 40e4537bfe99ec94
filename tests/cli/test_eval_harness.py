"""`jostle eval-harness`: a whole evaluation against a server that answers by token ids."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.engine.harness.harness_server import asked, harness_server
from tests.engine.small_tokenizers import chat
from tests.training.pair_files.pair_server import PairServer


@pytest.fixture
def server(tmp_path: Path) -> Iterator[PairServer]:
    with harness_server(tmp_path) as running:
        yield running


def test_without_the_harness_it_says_how_to_get_it(
    jostle: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval.__main__", None)
    code, said = jostle("eval-harness", "--tasks", "any")
    assert code == 2
    assert "pip install jostle's wheel with [harness]" in said


@pytest.mark.slow
def test_the_command_passes_everything_on(tmp_path: Path, jostle: Any, server: PairServer) -> None:
    pytest.importorskip("lm_eval", reason="needs lm_eval: requirements/benchmarks.txt")
    rows = [{"question": f"Color {n}?", "answer": n % 2} for n in range(6)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "colors.yaml").write_text(
        "task: colors\ndataset_path: json\n"
        f"dataset_kwargs: {{data_files: {{test: {tmp_path}/rows.jsonl}}}}\n"
        "test_split: test\noutput_type: multiple_choice\ndoc_to_text: '{{question}}'\n"
        "doc_to_choice: [blue, red]\ndoc_to_target: answer\nmetric_list: [{metric: acc}]\n"
    )
    given: tuple[Any, ...] = ("--url", server.url, "--tasks", "colors", "--include_path", tmp_path)
    given = (*given, "--num_fewshot", 1, "--apply_chat_template", "--output_path", tmp_path / "out")
    code, said = jostle("eval-harness", *given)
    assert code == 0, said
    assert "|colors|" in said
    assert list((tmp_path / "out").rglob("results_*.json"))
    prompts = [chat().decode(prompt) for prompt, _ in asked(server)]
    assert {text.count("<|im_start|>user") for text in prompts} == {2}
