"""Our extensions of vLLM are switched on where they give its numbers, as far as these are exact."""

from __future__ import annotations

import asyncio
import contextlib
from types import SimpleNamespace
from typing import Any

import pytest

from engine.errors import InputError
from engine.questions.backend import Scored
from engine.server.vllm import selftest
from engine.server.vllm.vllm_backend import NONE, Extensions
from engine.server.vllm.worker import SEEDED_DRAWS_METHOD


class Engine:
    """Says yes to everything; `off` is what each token of a scored pair is moved by with ours.

    By the last of its ranks, that is; the others move nothing. `both_ways` is how far what an
    output ends with moves what comes before, `company` what else is computed at once.
    """

    def __init__(self, dtype: str, off: list[float], *, v2: bool = False, n_ranks: int = 1) -> None:
        self.off = off
        self.n_ranks = n_ranks
        self.vllm_config = SimpleNamespace(
            use_v2_model_runner=v2,
            speculative_config=None,
            kv_transfer_config=None,
            model_config=SimpleNamespace(
                model="some/model", dtype=f"torch.{dtype}", get_vocab_size=lambda: 1000
            ),
            device_config=SimpleNamespace(device_type="cpu"),
        )
        self.asked: list[tuple[Any, ...]] = []
        self.generated: list[int] = []
        self.draws_unfit: str | None = None
        self.both_ways = self.company = 0.0
        self.n_running = 0

    async def collective_rpc(self, method: str, args: tuple[bool, ...] = ()) -> list[str | None]:
        if method == SEEDED_DRAWS_METHOD:
            return [self.draws_unfit]
        self.asked.append((method, *args))
        return [None]


class Backend:
    def __init__(self, client: Engine, salt: str, *, extensions: Extensions = NONE) -> None:
        self.client, self.ours = client, extensions.output_rows
        self.n_replicas = client.n_ranks

    async def score(
        self, prompt: tuple[int, ...], output: tuple[int, ...], name: str, group: int
    ) -> Scored:
        off = self.client.off * len(output)
        wrong = self.ours and group == self.n_replicas - 1
        moved = off[: len(output)] if wrong else [0.0] * len(output)
        seen = self.client.both_ways * (output[-1] % 7)
        self.client.n_running += 1
        await asyncio.sleep(0)
        seen += self.client.company * (self.client.n_running > 1)
        self.client.n_running -= 1
        return Scored(tuple(-9.0 - seen - each for each in moved), len(prompt), 0, False)

    async def generate(
        self, prompt: tuple[int, ...], max_tokens: int, end: int, name: str, group: int
    ) -> None:
        self.client.generated.append(group)


@pytest.mark.parametrize(
    ("dtype", "off", "kept"),
    [
        ("float32", [5e-5], True),
        ("float32", [2e-4], False),
        ("bfloat16", [0.1, 0.297, -0.1], True),  # as read on CUDA
        ("float16", [0.01], True),
        ("bfloat16", [1.2, -1.2], False),
        ("bfloat16", [0.0] * 32 + [3.0], False),  # one row of many is another one
        ("float16", [0.4], False),
    ],
)
def test_output_rows_are_kept_where_they_give_the_stock_rows(
    monkeypatch: pytest.MonkeyPatch, dtype: str, off: list[float], kept: bool
) -> None:
    monkeypatch.setattr(selftest, "VllmBackend", Backend)
    engine: Any = Engine(dtype, off)
    assert asyncio.run(selftest.enable_extensions(engine)).output_rows is kept
    assert [on for _, on in engine.asked] == ([True] if kept else [True, False])


@pytest.mark.parametrize(("off", "kept"), [([0.1], True), ([3.0], False)])
def test_the_v2_runner_is_warmed_up_and_has_rows_of_its_own(
    monkeypatch: pytest.MonkeyPatch, off: list[float], kept: bool
) -> None:
    monkeypatch.setattr(selftest, "VllmBackend", Backend)
    engine: Any = Engine("bfloat16", off, v2=True, n_ranks=2)
    assert asyncio.run(selftest.enable_extensions(engine)) == Extensions(output_rows=kept)
    assert engine.generated == [0, 1]
    assert [on for _, on in engine.asked] == ([True] if kept else [True, False])


@pytest.mark.parametrize(
    ("fault", "size", "told"),
    [
        ("both_ways", 0.002, None),
        ("both_ways", 2.0, "the model reads a prompt in both directions .* nothing in it can be"),
        ("company", 0.002, None),
        ("company", 2.0, "vLLM computes wrong numbers where it computes several requests at once"),
    ],
)
def test_what_gives_wrong_numbers_is_not_served(
    monkeypatch: pytest.MonkeyPatch, fault: str, size: float, told: str | None
) -> None:
    monkeypatch.setattr(selftest, "VllmBackend", Backend)
    engine: Any = Engine("bfloat16", [0.0])
    setattr(engine, fault, size)
    refused = pytest.raises(InputError, match=f"some/model: {told}")
    with refused if told else contextlib.nullcontext():
        asyncio.run(selftest.enable_extensions(engine))


def test_a_rank_that_is_wrong_speaks_for_all(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(selftest, "VllmBackend", Backend)
    engine: Any = Engine("float32", [1.0], n_ranks=3)
    assert asyncio.run(selftest.enable_extensions(engine)) == NONE
    assert "rank 2: the self-test's log-probabilities" in caplog.text


def test_the_log_says_that_seeded_requests_may_end_the_engine(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(selftest, "VllmBackend", Backend)
    engine: Any = Engine("float32", [0.0])
    engine.draws_unfit = "another vLLM"
    asyncio.run(selftest.enable_extensions(engine))
    assert "a seeded request whose prompt is cut ends the engine: another vLLM" in caplog.text
