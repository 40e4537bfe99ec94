"""`jostle logprobs` and the harness' model on a real server, against transformers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from engine.client import EngineClient
from engine.process.engine_process import EngineProcess
from tests.integration.reference import Reference

pytestmark = pytest.mark.integration

PAIRS = [
    ("The capital of France is", " Paris"),
    ("The capital of France is", " a banana, 日本語"),
    ("Count: one, two,", " three,\n four"),
    ("", "Hello <|im_end|>"),
]
TEXT = "The quick brown fox jumps over the lazy dog. " * 6


def test_a_file_is_scored_as_transformers_scores_it(
    server: EngineProcess, client: EngineClient, base: Reference, tmp_path: Path
) -> None:
    given, out = tmp_path / "in.jsonl", tmp_path / "out.parquet"
    rows = [{"prompt": prompt, "completion": completion} for prompt, completion in PAIRS]
    given.write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = [sys.executable, "-m", "cli.main", "logprobs", str(given), "-o", str(out)]
    subprocess.run([*command, "--tokens", "--url", server.url], check=True)
    table = pl.read_parquet(out)
    assert table["completion"].to_list() == [completion for _, completion in PAIRS]
    for row in table.to_dicts():
        assert "".join(row["token_texts"]) == row["completion"]
        prompt = base.tokenizer(row["prompt"])["input_ids"] or [base.tokenizer.bos_token_id]
        scores = base.rows(prompt, row["token_ids"])
        expected = [
            float(each[token]) for each, token in zip(scores, row["token_ids"], strict=True)
        ]
        assert row["token_logprobs"] == pytest.approx(expected, abs=1e-4)
        assert row["is_greedy"] == (scores.argmax(dim=1).tolist() == row["token_ids"])
    assert table["is_greedy"].to_list()[0]


def test_the_harness_gets_from_us_what_it_gets_from_transformers(
    server: EngineProcess, client: EngineClient, base: Reference
) -> None:
    pytest.importorskip("lm_eval", reason="needs lm_eval: requirements/benchmarks.txt")
    from lm_eval.api.instance import Instance  # type: ignore[import-untyped,import-not-found,unused-ignore]
    from lm_eval.models.huggingface import HFLM  # type: ignore[import-untyped,import-not-found,unused-ignore]

    from engine.harness.jostle_lm import JostleLM

    ours = JostleLM(url=server.url)
    theirs = HFLM(pretrained=base.model, tokenizer=base.tokenizer, batch_size=4)

    def ask(kind: str, *arguments: tuple[Any, ...]) -> tuple[list[Any], list[Any]]:
        requests = [
            Instance(kind, {}, each, number, ("task", number, 1))
            for number, each in enumerate(arguments)
        ]
        return getattr(ours, kind)(requests), getattr(theirs, kind)(requests)

    scored, expected = ask("loglikelihood", *PAIRS, ("The capital of France is ", "Paris"))
    assert [greedy for _, greedy in scored] == [greedy for _, greedy in expected]
    assert [value for value, _ in scored] == pytest.approx([v for v, _ in expected], abs=1e-3)
    scored, expected = ask("loglikelihood_rolling", (TEXT,), ("Hello.",))
    assert scored == pytest.approx(expected, abs=1e-2)
    options = {"until": ["\n"], "max_gen_toks": 6, "do_sample": False}
    prompts = [(prompt, options) for prompt, _ in PAIRS if prompt]
    scored, expected = ask("generate_until", *prompts)
    assert scored == expected
    ours.close()
