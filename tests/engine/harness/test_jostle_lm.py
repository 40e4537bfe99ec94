"""The harness' model against a server that answers by the token ids alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.errors import EngineError, InputError
from tests.engine.harness.harness_server import MAX_LENGTH, asked, harness_server
from tests.training.pair_files.pair_server import PairServer

pytest.importorskip("lm_eval", reason="needs lm_eval: requirements/benchmarks.txt")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[PairServer]:
    with harness_server(tmp_path) as running:
        yield running


@pytest.fixture
def model(server: PairServer) -> Iterator[Any]:
    from engine.harness.jostle_lm import JostleLM

    made = JostleLM(url=server.url)
    yield made
    made.close()


def instances(kind: str, *arguments: tuple[Any, ...]) -> list[Any]:
    from lm_eval.api.instance import Instance  # type: ignore[import-untyped,import-not-found,unused-ignore]

    return [
        Instance(kind, {}, each, number, ("task", number, 1))
        for number, each in enumerate(arguments)
    ]


def test_pairs_are_cut_where_the_harness_cuts_them(model: Any, server: PairServer) -> None:
    model.loglikelihood(instances("loglikelihood", ("Say the color: ", "blue sea")))
    ((prompt, completion),) = asked(server)
    decode = model.tokenizer.decode
    assert (decode(prompt), decode(completion)) == ("Say the color:", " blue sea")


@pytest.mark.parametrize("context", ["", " \n "])
def test_a_blank_context_is_the_beginning_of_sequence(
    model: Any, server: PairServer, context: str
) -> None:
    model._add_bos_token = False
    model.loglikelihood(instances("loglikelihood", (context, "blue")))
    ((prompt, completion),) = asked(server)
    assert prompt == [model.tokenizer.bos_token_id]
    assert model.tokenizer.decode(completion) == f"{context}blue"


def test_an_output_of_nothing_begins_there_too(model: Any, server: PairServer) -> None:
    model._add_bos_token = False
    model.generate_until(instances("generate_until", ("", {"max_gen_toks": 8})))
    assert server.bodies[0]["prompt"] == [[model.tokenizer.bos_token_id]]


def test_answers_come_in_the_order_of_the_requests_and_equal_pairs_are_asked_once(
    model: Any, server: PairServer
) -> None:
    texts = [("b", " z"), ("a", " y"), ("b", " x"), ("b", " z")]
    answers = model.loglikelihood(instances("loglikelihood", *texts))
    assert answers[0] == answers[3]
    pairs = asked(server)
    assert len(pairs) == 3
    assert pairs == sorted(pairs)
    alone = [model.loglikelihood(instances("loglikelihood", each))[0] for each in texts]
    assert answers == alone
    assert {greedy for _, greedy in answers} <= {True, False}


def test_a_long_context_loses_its_beginning(model: Any, server: PairServer) -> None:
    context = "alpha bravo " * MAX_LENGTH
    model.loglikelihood(instances("loglikelihood", (context, " blue")))
    ((prompt, completion),) = asked(server)
    assert len(prompt) + len(completion) == MAX_LENGTH - 1
    assert prompt == model.tok_encode(context.rstrip())[-len(prompt) :]


@pytest.mark.parametrize(
    ("pair", "problem"),
    [(("a", " blue" * MAX_LENGTH), "a continuation has"), (("a", ""), "has no tokens")],
)
def test_a_continuation_that_does_not_fit_is_named(
    model: Any, pair: tuple[str, str], problem: str
) -> None:
    with pytest.raises(InputError, match=problem) as told:
        model.loglikelihood(instances("loglikelihood", ("b", " c"), pair))
    assert told.value.record == f"'a' + {pair[1][:80]!r}"


def test_rolling_windows_hold_every_token_once(model: Any, server: PairServer) -> None:
    text = "alpha bravo charlie delta " * 40
    (total,) = model.loglikelihood_rolling(instances("loglikelihood_rolling", (text,)))
    pairs = asked(server)
    assert len(pairs) > 2
    assert all(len(prompt) + len(completion) < MAX_LENGTH for prompt, completion in pairs)
    scored = sorted(token for _, completion in pairs for token in completion)
    assert scored == sorted(model.tok_encode(text))
    alone = model._loglikelihood_tokens([(None, *pair) for pair in pairs])
    assert total == pytest.approx(sum(logprob for logprob, _ in alone))


def test_an_engine_that_does_not_tell_what_is_likeliest_is_an_error(
    model: Any, server: PairServer
) -> None:
    server.tells_greedy = False
    with pytest.raises(EngineError, match="likeliest"):
        model.loglikelihood(instances("loglikelihood", ("a", " b")))


@pytest.mark.parametrize(
    ("ask", "arguments"),
    [
        ("loglikelihood", ("a", " b")),
        ("loglikelihood_rolling", ("a b",)),
        ("generate_until", ("a", {"until": ["\n\n"]})),
    ],
)
def test_answers_are_all_by_the_same_weights(
    model: Any,
    server: PairServer,
    monkeypatch: pytest.MonkeyPatch,
    ask: str,
    arguments: tuple[Any, ...],
) -> None:
    weights = model._client.weights

    def reloading() -> Any:
        state = weights()
        server.version = "v2"
        return state

    monkeypatch.setattr(model._client, "weights", reloading)
    with pytest.raises(EngineError, match="the weights changed from v1 to v2"):
        getattr(model, ask)(instances(ask, arguments))
    assert len(getattr(model, ask)(instances(ask, arguments))) == 1, "a later call may have others"


def test_outputs_end_before_the_texts_that_end_them(model: Any, server: PairServer) -> None:
    options = {"until": ["\n\n"], "max_gen_toks": 8, "do_sample": False, "temperature": 0.0}
    texts = model.generate_until(
        instances("generate_until", ("alpha bravo", options), ("a", options))
    )
    lengths = [len(model.tok_encode(text)) for text in ("alpha bravo", "a")]
    assert texts == [f"out {length}" for length in lengths]
    (body,) = server.bodies
    assert body["stop"] == ["\n\n", "<|im_end|>"]
    assert (body["max_tokens"], body["temperature"], body["top_p"]) == (8, 0.0, 1.0)


@pytest.mark.parametrize(
    ("options", "temperature"),
    [
        ({}, 0.0),
        ({"do_sample": False, "num_beams": 1}, 0.0),
        ({"do_sample": True}, 1.0),
        ({"do_sample": True, "temperature": 0.7, "top_k": 5}, 0.7),
    ],
)
def test_answers_are_greedy_unless_a_task_wants_samples(
    model: Any, server: PairServer, options: dict[str, Any], temperature: float
) -> None:
    given = {"until": ["\n\n"], "max_gen_toks": 8, **options}
    model.generate_until(instances("generate_until", ("alpha", given)))
    assert server.bodies[-1]["temperature"] == temperature
    assert "num_beams" not in server.bodies[-1]


@pytest.mark.parametrize("name", ["num_beams", "typical_p", "repetition_penality", "stop"])
def test_an_option_that_would_be_ignored_is_an_error(
    model: Any, server: PairServer, name: str
) -> None:
    with pytest.raises(InputError, match="no option that is passed on") as told:
        model.generate_until(instances("generate_until", ("alpha", {name: 4})))
    assert told.value.field == name
    assert not server.bodies


def test_conversations_begin_once(model: Any) -> None:
    said = [{"role": "user", "content": "Say"}, {"role": "assistant", "content": "blue"}]
    text = model.apply_chat_template([*said, said[0]])
    assert text.endswith("<|im_start|>assistant\n")
    begin = model.tokenizer.bos_token_id
    assert model.tok_encode(text)[:2].count(begin) == 1
    assert not model.apply_chat_template(said, add_generation_prompt=False).endswith("<|im_end|>\n")


def test_a_context_longer_than_the_engines_is_an_error(server: PairServer) -> None:
    from engine.harness.jostle_lm import JostleLM

    with pytest.raises(InputError, match=f"context is {MAX_LENGTH} tokens, not 65") as told:
        JostleLM(url=server.url, max_length=MAX_LENGTH + 1)
    assert told.value.field == "max_length"
    shorter = JostleLM(url=server.url, max_length=MAX_LENGTH - 1)
    assert shorter.max_length == MAX_LENGTH - 1
    shorter.close()


@pytest.mark.parametrize(
    "given",
    [{"dtype": "float32"}, {"think_end_token": 200008}, {"truncation_side": "Left"}],
)
def test_arguments_are_checked_before_anything_is_asked(given: dict[str, Any]) -> None:
    from engine.harness.jostle_lm import JostleLM

    with pytest.raises(InputError, match=next(iter(given))):
        JostleLM(url="http://127.0.0.1:9", **given)


class Cache:
    """What the harness was given to keep, in order."""

    def __init__(self) -> None:
        self.kept: list[tuple[str, Any]] = []

    def add_partial(self, kind: str, key: Any, answer: Any) -> None:
        self.kept.append((kind, key))


@pytest.fixture
def breaking(model: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A model whose engine answers one part of one pair, and no more."""
    monkeypatch.setattr("engine.harness.jostle_lm.PAIRS_PER_REQUEST", 1)
    monkeypatch.setattr("engine.harness.jostle_lm.REQUESTS_AT_ONCE", 1)
    score = model._score
    asked: list[Any] = []

    def once(version: str, part: Any) -> Any:
        asked.append(part)
        if len(asked) > 1:
            raise EngineError("gone")
        return score(version, part)

    monkeypatch.setattr(model, "_score", once)
    model.set_cache_hook(Cache())
    return model


def test_answers_are_kept_though_the_engine_dies_before_the_others(breaking: Any) -> None:
    texts = [("b", " z"), ("a", " y"), ("a", " y")]
    with pytest.raises(EngineError, match="gone"):
        breaking.loglikelihood(instances("loglikelihood", *texts))
    assert breaking.cache_hook.kept == [("loglikelihood", ("a", " y"))] * 2


def test_texts_are_kept_when_their_last_window_is_scored(breaking: Any) -> None:
    requests = instances("loglikelihood_rolling", ("b",), ("a",))
    with pytest.raises(EngineError, match="gone"):
        breaking.loglikelihood_rolling(requests)
    assert [kind for kind, _ in breaking.cache_hook.kept] == ["loglikelihood_rolling"]
    assert breaking.cache_hook.kept[0][1] in [("a",), ("b",)]
