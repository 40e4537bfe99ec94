"""`POST /v1/completion_logprobs`, on an engine in memory."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from vllm.sampling_params import MAX_LOGPROB_TOKEN_IDS

from engine.pairs.pair_encoder import CANDIDATES_AT_ONCE, EncodedPair
from engine.protocol.api import PromptUncertaintyRequest
from engine.protocol.completions import Encoding
from engine.protocol.limits import Limits
from engine.server.http import answers
from tests.engine.questions.fake_backend import LIKELIEST, output_logprobs, token_logprob
from tests.engine.server.http.test_routes import ask, server
from tests.engine.small_tokenizers import chat

PATH = "/v1/completion_logprobs"
IDS = {"prompt_token_ids": [1, 2], "completion_token_ids": [3, 4]}
TEXT = {"prompt": "Say the", "completion": " color of it"}
CHAT = {"messages": [{"role": "user", "content": "Say"}], "completion": "blue"}
ANSWERED = {"messages": [*CHAT["messages"], {"role": "assistant", "content": "blue"}]}


def post(body: Any, limits: Limits | None = None, **more: Any) -> tuple[int, Any]:
    live, app = server(limits)
    live.fake.tokenizer = chat()
    for name, value in more.items():
        setattr(live.fake, name, value)
    answer = ask(app, "POST", PATH, json=body)
    if body.get("stream") and answer.status_code == 200:
        assert answer.headers["content-type"] == "application/x-ndjson"
        return 200, [json.loads(line) for line in answer.text.splitlines()]
    return answer.status_code, answer.json()


def test_a_result_says_what_its_tokens_say() -> None:
    _, answer = post({"pairs": [IDS, TEXT, CHAT, ANSWERED], "tokens": True})
    tokenizer = chat()
    assert [each["index"] for each in answer["results"]] == [0, 1, 2, 3]
    for given, each in zip((IDS, TEXT, CHAT, ANSWERED), answer["results"], strict=True):
        values = each["token_logprobs"]
        assert each["logprob"] == pytest.approx(math.fsum(values))
        assert each["mean_logprob"] == pytest.approx(each["logprob"] / each["n_tokens"])
        assert len(each["token_ids"]) == len(each["token_texts"]) == len(values)
        assert each["token_is_greedy"] == [value > LIKELIEST for value in values]
        assert each["is_greedy"] == all(each["token_is_greedy"])
        assert each["weights_version"] == answer["weights_version"] == "base"
        if given is TEXT:
            assert "".join(each["token_texts"]) == TEXT["completion"]
            prompt = tuple(tokenizer(TEXT["prompt"])["input_ids"])
            assert each["n_prompt_tokens"] == len(prompt)
            assert tuple(values) == output_logprobs(prompt, tuple(each["token_ids"]))
    assert answer["results"][2] == answer["results"][3] | {"index": 2}
    assert answer["encoding"] == Encoding().model_dump()
    assert answer["usage"]["pairs"] == 4


def test_without_tokens_it_is_short() -> None:
    _, answer = post({"pairs": [TEXT]})
    (result,) = answer["results"]
    assert not any(name.startswith("token") for name in result)
    _, whole = post({"pairs": [TEXT], "tokens": True})
    assert result.items() <= whole["results"][0].items()


@pytest.mark.parametrize(
    ("path", "body"),
    [(PATH, {"pairs": [IDS]}), ("/v1/prompt_uncertainty", PromptUncertaintyRequest.EXAMPLE)],
)
def test_a_salt_of_the_cache_is_the_requests_and_the_weights(path: str, body: Any) -> None:
    live, app = server()
    for salt in ({}, {"cache_salt": "mine"}):
        assert ask(app, "POST", path, json=body | salt).status_code == 200
    assert live.salts[-2:] == ["jostle/base", "jostle/base/mine"]
    answer = ask(app, "POST", path, json=body | {"cache_salt": "two\nlines"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "cache_salt")


def test_lines_hold_what_the_body_holds() -> None:
    body = {"pairs": [TEXT, IDS, TEXT | {"completion": ""}, CHAT], "on_fault": "skip"}
    _, whole = post(body)
    _, (*lines, totals) = post(body | {"stream": True})
    by_index = sorted(lines, key=lambda line: line["index"])
    assert [line for line in by_index if "reason" not in line] == whole["results"]
    skipped = {
        "index": 2,
        "reason": "record pairs[2], field 'completion': is empty",
        "field": "completion",
    }
    assert whole["skipped"] == [skipped]
    assert by_index[2] == skipped
    assert totals == {
        "done": True,
        "pairs": 3,
        "skipped": 1,
        "weights_version": "base",
        "encoding": whole["encoding"],
        "usage": whole["usage"],
    }


def test_neighbours_in_the_engine_share_prefixes_whatever_the_order() -> None:
    live, app = server()
    prompts = [[7, 8, 9, last] for last in (1, 2, 3)] + [[4, 5, 6, last] for last in (1, 2, 3)]
    order = [0, 3, 1, 4, 2, 5]
    pairs = [{"prompt_token_ids": prompts[i], "completion_token_ids": [1]} for i in order]
    ask(app, "POST", PATH, json={"pairs": pairs})
    asked = [order[int(name[6:-1])] for name in live.fake.calls]
    assert asked == [3, 4, 5, 0, 1, 2]
    assert live.fake.n_groups == 2, "one for each prefix"


def test_candidates_are_scored_in_the_place_of_each_token() -> None:
    of_each = IDS | {"candidate_token_ids": [[3, 9], [8]]}
    for_all = IDS | {"candidate_token_ids": [[5, 6, 7]]}
    _, answer = post({"pairs": [of_each, for_all, IDS], "tokens": True})
    each, every, none = answer["results"]
    assert each["candidate_logprobs"] == [
        [token_logprob((1, 2), 3), token_logprob((1, 2), 9)],
        [token_logprob((1, 2, 3), 8)],
    ]
    assert each["candidate_logprobs"][0][0] == each["token_logprobs"][0]
    assert every["candidate_logprobs"] == [
        [token_logprob(before, token) for token in (5, 6, 7)] for before in ((1, 2), (1, 2, 3))
    ]
    assert "candidate_logprobs" not in none
    assert answer["usage"]["tokens_submitted"] == 3 * 4 + 2 * (2 + 3)


def test_candidates_that_the_engine_cannot_tell_are_the_fault_of_their_pair() -> None:
    live, app = server()
    live.fake.tells_candidates = False
    pairs = [IDS, IDS | {"candidate_token_ids": [[5]]}]
    answer = ask(app, "POST", PATH, json={"pairs": pairs})
    assert answer.status_code == 400
    assert "record pairs[1], field 'candidate_token_ids': " in answer.json()["error"]["message"]
    assert live.fake.calls == []
    answer = ask(app, "POST", PATH, json={"pairs": pairs, "on_fault": "skip"}).json()
    assert [each["index"] for each in answer["skipped"]] == [1]


def test_candidates_count_as_often_as_the_engine_is_asked() -> None:
    assert CANDIDATES_AT_ONCE == MAX_LOGPROB_TOKEN_IDS
    many = tuple(range(CANDIDATES_AT_ONCE + 1))
    pair = EncodedPair(0, prompt=(1,) * 10, completion=(2,) * 3, candidates=(many,))
    assert pair.n_submitted == 13 + 2 * (10 + 11 + 12)
    assert pair.candidates_of_places == (many,) * 3
    body = IDS | {"candidate_token_ids": [list(many)]}
    status, answer = post({"pairs": [body]}, Limits(tokens=13))
    assert status == 413
    assert "14 tokens, the server's limit is 13" in answer["error"]["message"]


def test_a_stream_of_pairs_is_not_silent_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers.kept_alive, "__defaults__", (0.001,))
    live, app = server()
    live.fake.latency = lambda: 2_000  # rounds of the event loop
    answer = ask(app, "POST", PATH, json={"pairs": [IDS], "stream": True})
    result, totals = answer.text.split()
    assert "" in answer.text.splitlines()
    assert (json.loads(result)["index"], json.loads(totals)["pairs"]) == (0, 1)


def test_half_a_surrogate_pair_is_the_fault_of_its_pair() -> None:
    live, app = server()
    live.fake.tokenizer = chat()
    body: Any = {"pairs": [TEXT, TEXT | {"completion": " a \ud83d"}, CHAT]}

    def sent(body: Any) -> Any:
        headers = {"Content-Type": "application/json"}
        return ask(app, "POST", PATH, content=json.dumps(body), headers=headers).json()

    assert sent(body)["error"]["message"] == (
        "record pairs[1], field 'completion': not Unicode: holds half a surrogate pair"
    )
    answer = sent(body | {"on_fault": "skip"})
    assert [each["index"] for each in answer["results"]] == [0, 2]
    assert [each["index"] for each in answer["skipped"]] == [1]


def test_an_answer_that_is_no_probability_is_named_or_skipped() -> None:
    faults = {"pairs[1]": lambda: math.nan}
    status, answer = post({"pairs": [TEXT, IDS]}, faults=faults)
    assert status == 500
    assert "pairs[1]: the engine gave nan as log-probability" in answer["error"]["message"]
    status, lines = post({"pairs": [TEXT, IDS], "stream": True}, faults=faults)
    assert lines[-1]["error"]["code"] == 500
    status, answer = post({"pairs": [TEXT, IDS], "on_fault": "skip"}, faults=faults)
    assert [each["index"] for each in answer["results"]] == [0]
    assert "pairs[1]" in answer["skipped"][0]["reason"]


LONG = {"prompt_token_ids": [1] * 4096, "completion_token_ids": [2]}
UNKNOWN = {"prompt_token_ids": [1], "completion_token_ids": [50_000]}


@pytest.mark.parametrize(
    ("pair", "field", "problem"),
    [
        (TEXT | {"completion": None}, "completion", "Input should be a valid string"),
        ({"prompt": "x"}, "completion", "is missing"),
        (TEXT | {"complexion": "x"}, "complexion", "is no field of this record"),
        ({"text": "x"}, "pairs", "a pair has prompt_token_ids and"),
        (None, "pairs", "a pair has prompt_token_ids and"),
        (TEXT | {"completion": ""}, "completion", "is empty"),
        (IDS | {"completion_token_ids": []}, "completion_token_ids", "at least 1 item"),
        (IDS | {"prompt_token_ids": [1, "x"]}, "prompt_token_ids[1]", "valid integer"),
        (LONG, None, "4097 tokens, the model's context holds 4095"),
        (UNKNOWN, "completion_token_ids", "not below the vocabulary size 50000"),
        (IDS | {"candidate_token_ids": [[50_000]]}, "candidate_token_ids", "not below the vocab"),
        (IDS | {"candidate_token_ids": [[-1]]}, "candidate_token_ids[0][0]", "greater than or"),
        (IDS | {"candidate_token_ids": [[1]] * 3}, "candidate_token_ids", "3 lists for a"),
        ({"messages": CHAT["messages"]}, "messages", "no assistant turn"),
        ({"messages": [{"role": "user"}]}, "messages[0].content", "is missing"),
    ],
)
def test_a_faulty_pair_is_one_line_that_names_it(
    pair: Any, field: str | None, problem: str
) -> None:
    status, answer = post({"pairs": [TEXT, IDS, pair]})
    assert status == 400
    error = answer["error"]
    assert (error["record"], error["param"]) == ("pairs[2]", field)
    assert problem in error["message"]
    assert error["message"].startswith("record pairs[2]")
    assert "\n" not in error["message"]
    assert len(error["message"]) < 200


def test_a_model_without_a_chat_template_says_so() -> None:
    _, app = server()
    answer = ask(app, "POST", PATH, json={"pairs": [CHAT]})
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == (
        "record pairs[0], field 'messages': the model's tokenizer has no chat template"
    )


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "field 'pairs': is missing"),
        ({"pairs": "x"}, "field 'pairs': Input should be a valid tuple"),
        ({"pairs": []}, "field 'pairs': Tuple should have at least 1 item"),
        ({"pairs": [IDS], "boundary": "x"}, "field 'boundary': Input should be 'joint' or"),
        ({"pairs": [IDS], "boundry": "joint"}, "field 'boundry': is no field of this record"),
        ({"pairs": [IDS], "tokens": 7}, "field 'tokens': Input should be a valid boolean"),
    ],
)
def test_a_faulty_body_is_one_line(body: Any, message: str) -> None:
    status, answer = post(body)
    assert status == 400
    assert answer["error"]["message"].startswith(message)


@pytest.mark.parametrize("path", ["prompt_uncertainty", "completion_logprobs", "weights"])
def test_what_is_no_json_is_told_where(path: str) -> None:
    _, app = server()
    json_type = {"Content-Type": "application/json"}
    for content, message in (
        (b'{"pairs": [}', "the body is no JSON: Expecting value, at character 11"),
        (b"", "is missing"),
        (b"[]", "Input should be"),
    ):
        answer = ask(app, "POST", f"/v1/{path}", content=content, headers=json_type)
        assert answer.status_code == 400
        assert message in answer.json()["error"]["message"]
        assert "\n" not in answer.json()["error"]["message"]
