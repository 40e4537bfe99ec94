"""Prompts are laid out with the tokenizer of what an engine serves, or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cli.client import builder_at
from engine.errors import InputError
from engine.prompts import PromptBuilder
from engine.prompts.prompt_config import PromptConfig
from engine.protocol.served_model import template_identity, tokenizer_identity
from engine.weights.identity import weights_identity
from tests.engine.small_tokenizers import chat, gpt2
from tests.engine.weights.served import SERVED, live
from tests.training.http_engine import HttpEngine, http_engine
from training.run.live_engine import check_prompts

OWN, OTHER = gpt2(), chat()


def make_model(folder: Path, tokenizer: Any) -> Path:
    tokenizer.save_pretrained(folder)
    (folder / "config.json").write_text('{"model_type": "llama"}')
    return folder


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[HttpEngine]:
    """Serves OWN, whose files lie in `own`; those of OTHER lie in `other`."""
    make_model(tmp_path / "own", OWN)
    make_model(tmp_path / "other", OTHER)
    with http_engine() as running:
        running.served = SERVED.model_copy(
            update={
                "model": "served/model",
                "tokenizer_model": str(tmp_path / "own"),
                "tokenizer": tokenizer_identity(OWN),
                "chat_template": template_identity(OWN),
                "max_model_len": 512,
            }
        )
        yield running


def commands(engine: HttpEngine, pool: Path, folder: Path) -> dict[str, tuple[object, ...]]:
    url = ("--url", engine.url)
    budget = ("--budget", 9_999)
    return {
        "eval": ("eval", pool, "--url", engine.url),
        "race": ("race", pool, "-o", folder / "top.txt", "-n", 2, *budget, *url),
        "score": ("score", pool, "-o", folder / "s.parquet", *url),
        "design": ("score", pool, "-o", folder / "s.parquet", "--design", "auto", *budget, *url),
    }


COMMANDS = ("eval", "race", "score", "design")


def test_without_a_name_the_tokenizer_is_the_one_the_engine_names(engine: HttpEngine) -> None:
    builder = builder_at(engine.url, None, PromptConfig(), None, None)
    assert tokenizer_identity(builder.tokenizer) == tokenizer_identity(OWN)
    assert builder.max_model_len == 512


@pytest.mark.parametrize("name", COMMANDS)
def test_another_tokenizer_than_the_served_one_is_refused(
    jostle: Any, engine: HttpEngine, pool: Path, tmp_path: Path, name: str
) -> None:
    command = commands(engine, pool, tmp_path)[name]
    code, shown = jostle(*command, "--model", tmp_path / "other")
    assert code == 2
    said = " ".join(shown.split())
    assert "the engine serves served/model, whose tokenizer (" in said
    assert not engine.scored


@pytest.mark.parametrize("name", COMMANDS)
def test_another_context_than_the_served_one_is_refused(
    jostle: Any, engine: HttpEngine, pool: Path, tmp_path: Path, name: str
) -> None:
    code, shown = jostle(*commands(engine, pool, tmp_path)[name], "--max-model-len", 256)
    assert code == 2
    assert "the engine's context is 512 tokens, not 256" in " ".join(shown.split())


@pytest.mark.parametrize("name", ["eval", "race", "design"])
def test_a_tokenizer_that_is_nowhere_is_asked_for(
    jostle: Any, engine: HttpEngine, pool: Path, tmp_path: Path, name: str
) -> None:
    gone = str(tmp_path / "gone")
    engine.served = engine.served.model_copy(update={"tokenizer_model": gone})
    code, shown = jostle(*commands(engine, pool, tmp_path)[name])
    assert code == 2
    assert "whose tokenizer is not here" in " ".join(shown.split())


def test_a_run_at_an_engine_of_another_model_is_refused(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "own", OWN)
    (folder / "model.safetensors").write_bytes(b"weights")
    builder = PromptBuilder(OWN, PromptConfig(), 512)
    served = SERVED.model_copy(
        update={
            "weights": weights_identity(folder),
            "tokenizer": tokenizer_identity(OWN),
            "chat_template": template_identity(OWN),
            "max_model_len": 512,
        }
    )

    def check(*, new: bool = True, version: str | None = None, **changes: Any) -> None:
        now = served.model_copy(update=changes)
        weights = live(version or now.version).model_copy(update={"served": now})
        check_prompts(weights, builder, str(folder), new=new)

    check()
    check(new=False, version="round-00-abc")
    cases: dict[str, dict[str, Any]] = {
        "whose weights are not those": {"weights": "3" * 64},
        "whose tokenizer": {"tokenizer": "3" * 64},
        "whose chat template": {"chat_template": "3" * 64},
        "is 512 tokens, the context of the engine 2048": {"max_model_len": 2048},
        "was loaded later": {"version": "round-00-abc"},
    }
    for said, changes in cases.items():
        with pytest.raises(InputError, match=said):
            check(**changes)
