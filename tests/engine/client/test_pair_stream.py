"""Streams of pairs: any number of them, cut, taken up, and named by their place in the call."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest

from engine.client import AsyncEngineClient, EngineClient
from engine.client.pair_stream import PairBatches
from engine.errors import EngineError, InputError
from engine.protocol.api import Usage
from engine.protocol.completions import (
    ChatPair,
    CompletionLogprobs,
    Encoding,
    Message,
    PairTotals,
    SkippedPair,
    TextPair,
)
from engine.protocol.limits import TooLargeError
from tests.engine.client.canned_server import Answer, Request, Server, error_line


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture
def client(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[EngineClient]:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with EngineClient(server.url, pairs_per_request=3) as client:
        yield client


def pairs(n: int) -> Iterator[TextPair]:
    return (TextPair(prompt=f"p{i}", completion=f" c{i}") for i in range(n))


def result_line(index: int, pair: dict[str, Any]) -> bytes:
    """Its log-probability is the number in its prompt."""
    value = -float(pair["prompt"][1:])
    return CompletionLogprobs.of(index, "v1", 1, [value]).model_dump_json().encode() + b"\n"


def totals_line(n_pairs: int, skipped: int = 0) -> bytes:
    totals = PairTotals(pairs=n_pairs, skipped=skipped, weights_version="v1", usage=Usage())
    return totals.model_dump_json().encode() + b"\n"


def well_behaved(request: Request) -> Answer:
    given = [*enumerate(request.body["pairs"])]
    return Answer(
        chunks=[*(result_line(i, pair) for i, pair in given[::-1]), totals_line(len(given))]
    )


def test_each_pair_has_one_result_and_its_own_place(server: Server, client: EngineClient) -> None:
    server.answer = well_behaved
    encoding = Encoding(boundary="separate", parse_special=True)
    found = list(client.logprobs(pairs(8), encoding, tokens=True))
    assert sorted((each.index, -each.logprob) for each in found) == [(i, i) for i in range(8)]
    assert [len(request.body.pop("pairs")) for request in server.requests] == [3, 3, 2]
    assert server.requests[0].body == {
        **encoding.model_dump(),
        "tokens": True,
        "stream": True,
        "on_fault": "error",
    }
    assert list(client.logprobs([])) == []

    async def all_of() -> list[int]:
        async with AsyncEngineClient(server.url) as asking:
            return [each.index async for each in asking.logprobs(pairs(3))]

    assert sorted(asyncio.run(all_of())) == [0, 1, 2]


def test_long_pairs_are_sent_in_smaller_requests(server: Server) -> None:
    server.answer = lambda request: Answer(
        chunks=[result_line(0, {"prompt": "p0"}), totals_line(1)]
    )
    long = [TextPair(prompt="x" * 5_000_000, completion="y")] * 3
    with EngineClient(server.url) as client:
        assert [each.index for each in client.logprobs(long)] == [0, 1, 2]
    assert len(server.requests) == 3


def test_a_cut_stream_is_taken_up_with_what_is_missing(
    server: Server, client: EngineClient
) -> None:
    def cut_once(request: Request) -> Answer:
        if len(server.requests) > 1:
            return well_behaved(request)
        return Answer(chunks=[result_line(1, request.body["pairs"][1])], cut=True)

    server.answer = cut_once
    found = [(each.index, -each.logprob) for each in client.logprobs(pairs(3))]
    assert found == [(1, 1), (2, 2), (0, 0)]
    asked = [[pair["prompt"] for pair in request.body["pairs"]] for request in server.requests]
    assert asked == [["p0", "p1", "p2"], ["p0", "p2"]]


def test_skipped_pairs_are_told_by_their_place_in_the_call(
    server: Server, client: EngineClient
) -> None:
    def second_of_each(request: Request) -> Answer:
        assert request.body["on_fault"] == "skip"
        reason = "record pairs[1], field 'completion': is empty"
        skipped = {"index": 1, "reason": reason, "field": "completion"}
        given = request.body["pairs"]
        lines = [result_line(i, given[i]) for i in (0, 2)]
        return Answer(chunks=[json.dumps(skipped).encode() + b"\n", *lines, totals_line(2, 1)])

    server.answer = second_of_each
    skipped: list[SkippedPair] = []
    found = list(client.logprobs(pairs(6), on_skip=skipped.append))
    assert sorted(each.index for each in found) == [0, 2, 3, 5]
    assert [(each.index, each.reason.split(",")[0]) for each in skipped] == [
        (1, "record pairs[1]"),
        (4, "record pairs[4]"),
    ]


def test_faults_name_the_place_in_the_call(server: Server, client: EngineClient) -> None:
    said = "record pairs[2], field 'completion': is empty"

    def refuses(request: Request) -> Answer:
        if len(server.requests) == 1:
            return well_behaved(request)
        error = json.loads(error_line(400, said, "completion"))
        error["error"]["record"] = "pairs[2]"
        return Answer(400, chunks=[json.dumps(error).encode()])

    server.answer = refuses
    with pytest.raises(
        InputError, match=r"record pairs\[5\], field 'completion': is empty"
    ) as told:
        list(client.logprobs(pairs(6)))
    assert (told.value.record, told.value.field) == ("pairs[5]", "completion")
    server.requests.clear()
    server.answer = lambda request: (
        well_behaved(request)
        if len(server.requests) == 1
        else Answer(chunks=[error_line(500, "pair pairs[0]: the engine gave nan")])
    )
    with pytest.raises(EngineError, match=r"pair pairs\[3\]: the engine gave nan"):
        list(client.logprobs(pairs(6)))


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ([b"{}\n"], "not understood"),
        ([result_line(9, {"prompt": "p0"})], "pair 9 was not asked for"),
        ([totals_line(1)], "1 pairs were asked for, the server says it sent 1"),
    ],
)
def test_what_cannot_be_right_is_an_error(
    server: Server, client: EngineClient, lines: list[bytes], problem: str
) -> None:
    server.answer = lambda request: Answer(chunks=lines)
    with pytest.raises(EngineError, match=problem):
        list(client.logprobs(pairs(1)))


def test_what_is_too_large_is_sent_in_smaller_requests(
    server: Server, client: EngineClient
) -> None:
    def takes_one(request: Request) -> Answer:
        if len(request.body["pairs"]) > 1:
            return Answer(413, chunks=[error_line(413, "too many pairs", "pairs")])
        return well_behaved(request)

    server.answer = takes_one
    found = [(each.index, -each.logprob) for each in client.logprobs(pairs(5))]
    assert found == [(i, i) for i in range(5)]
    asked = [len(request.body["pairs"]) for request in server.requests]
    assert asked == [3, 1, 2, 1, 1, 2, 1, 1], "what follows begins small, and grows again"


def test_few_long_pairs_do_not_send_the_others_apart() -> None:
    batches = PairBatches(pairs(3_000), Encoding(), tokens=False, on_skip=None, most_pairs=512)
    sizes = []
    for batch in batches:
        asked = json.loads(batch.request())["pairs"]
        numbers = [int(pair["prompt"][1:]) for pair in asked]
        if len(numbers) > 2 and set(numbers) & set(range(100, 110)):
            assert batches.cut(batch, TooLargeError("too long"))
        else:
            sizes.append(len(numbers))
    assert sum(sizes) == 3_000
    assert sizes[-2] > 200
    assert len(sizes) < 100


@pytest.mark.parametrize("record", [None, "pairs[0]"])
def test_a_pair_that_is_too_large_is_an_error(
    server: Server, client: EngineClient, record: str | None
) -> None:
    error = json.loads(error_line(413, "too long"))["error"]
    body = json.dumps({"error": {**error, "record": record}}).encode()
    server.answer = lambda request: Answer(413, chunks=[body])
    with pytest.raises(InputError, match="too long"):
        list(client.logprobs(pairs(2 if record else 1)))
    assert len(server.requests) == 1


BROKEN = "a\ud800"


@pytest.mark.parametrize(
    ("pair", "field"),
    [
        (TextPair(prompt="p", completion=BROKEN), "completion"),
        (
            ChatPair(messages=(Message(role="user", content=BROKEN),), completion="c"),
            "messages[0].content",
        ),
    ],
)
def test_a_text_that_is_not_unicode_is_named_or_skipped(
    server: Server, client: EngineClient, pair: TextPair | ChatPair, field: str
) -> None:
    given = [*pairs(2), pair, *pairs(2)]
    server.answer = well_behaved
    with pytest.raises(InputError, match="not Unicode") as told:
        list(client.logprobs(given))
    assert (told.value.record, told.value.field) == ("pairs[2]", field)
    with pytest.raises(InputError, match="not Unicode"):
        client.completion_logprobs(given)
    assert server.requests == []
    skipped: list[SkippedPair] = []
    found = client.logprobs(given, on_skip=skipped.append)
    assert sorted(each.index for each in found) == [0, 1, 3, 4]
    assert [(each.index, each.field) for each in skipped] == [(2, field)]
    assert skipped[0].reason.startswith("record pairs[2], field ")
