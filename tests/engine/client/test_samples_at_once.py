"""Prompts that are sampled from are all tokenized at once."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from engine.client.async_client import AsyncEngineClient
from engine.errors import InputError


class Server:
    """Answers no prompt before it has been asked about all of them."""

    def __init__(self, n: int, refused: str | None = None) -> None:
        self.arrived = asyncio.Barrier(n)
        self.refused = refused

    async def call(self, method: str, path: str, body: str = "{}") -> Any:
        asked = json.loads(body)
        if path == "/v1/models":
            return {"data": [{"id": "served"}]}
        if path == "/tokenize":
            await self.arrived.wait()
            if asked["prompt"] == self.refused:
                raise InputError("cannot be tokenized", field="prompt")
            return {"tokens": [len(asked["prompt"])]}
        ids = [row for prompt in asked["prompt"] for row in [prompt] * asked["n"]]
        choices = [
            {"index": index, "text": str(row), "finish_reason": "stop", "token_ids": row}
            for index, row in enumerate(ids)
        ]
        return {"choices": choices}


async def sampled(
    monkeypatch: pytest.MonkeyPatch, refused: str | None = None
) -> list[tuple[int, int, str]]:
    async with AsyncEngineClient("http://127.0.0.1:9") as client:
        monkeypatch.setattr(client, "_call", Server(3, refused).call)
        found = await client.samples(["a", "bb", "ccc"], 2)
    return [(each.index, each.number, each.text) for each in found]


def test_all_at_once_and_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    found = asyncio.run(asyncio.wait_for(sampled(monkeypatch), 30))
    expected = [(index, number, f"[{index + 1}]") for index in range(3) for number in range(2)]
    assert found == expected


def test_one_that_is_refused_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="cannot be tokenized"):
        asyncio.run(asyncio.wait_for(sampled(monkeypatch, "bb"), 30))
