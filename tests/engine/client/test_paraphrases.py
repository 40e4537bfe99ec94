"""Paraphrases are asked for once, checked, kept, and put into the design."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.client import AsyncEngineClient, EngineClient, chat_client
from engine.client.paraphrase_journal import ParaphraseJournal
from engine.client.paraphrases import EngineAt, asks_for_paraphrases, fill_from
from engine.errors import EngineError, InputError
from engine.perturb import Compose, DropWords, Paraphrase, ResampleExamples, Typos
from engine.perturb.base import Step
from engine.perturb.paraphrase import ParaphraseEndpoint
from engine.prompts import PromptBuilder
from engine.prompts.prompt_config import PromptConfig
from engine.protocol.api import StreamTotals, Usage
from engine.protocol.score_config import ScoreConfig
from engine.questions.pair_plan import plan_pairs, plan_task
from engine.tasks import Task
from tests.engine.client.canned_server import Answer, Request, Server, make_score
from tests.engine.examples import make_task
from tests.engine.small_tokenizers import gpt2

TASKS = [make_task("a", definition="Say it"), make_task("b", definition="Name it")]


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.client.chat_client.time.sleep", lambda seconds: None)


def said(text: str | None, finish_reason: str = "stop") -> Answer:
    message = {"role": "assistant", "content": text}
    body = {"choices": [{"message": message, "finish_reason": finish_reason}]}
    return Answer(chunks=[json.dumps(body).encode()])


def models(*names: str) -> Answer:
    return Answer(chunks=[json.dumps({"data": [{"id": name} for name in names]}).encode()])


def text_of(request: Request) -> str:
    return str(request.body["messages"][0]["content"]).rpartition("\n\n")[2]


def paraphrasing(request: Request) -> Answer:
    """Answers that differ between seeds and texts, as those of a model do."""
    if request.path == "/v1/models":
        return models("writer", "other")
    return said(f'"In other words, {request.body["seed"]}: {text_of(request).upper()}!"')


def questions(server: Server) -> list[Request]:
    return [request for request in server.requests if request.path == "/v1/chat/completions"]


def design(perturbation: Step | None = None, k: int = 2, **more: Any) -> ScoreConfig:
    return ScoreConfig(n_perturbations=k, perturbation=perturbation or Paraphrase(), **more)


def filled_by(
    url: str | None, config: ScoreConfig, tasks: list[Task], file: Path, key: str | None = None
) -> ScoreConfig:
    """The design with the paraphrases that an engine at this address writes."""
    with ParaphraseJournal(file) as journal:
        return fill_from(journal, config, tasks, EngineAt(url, key))


def texts(config: ScoreConfig) -> dict[str, tuple[str, ...]]:
    assert isinstance(config.perturbation, Paraphrase)
    return config.perturbation.texts


def test_the_engine_writes_them_when_nobody_else_is_named(server: Server, tmp_path: Path) -> None:
    server.answer = paraphrasing
    config = filled_by(server.url, design(), TASKS, tmp_path / "kept.jsonl", "secret")
    assert {text: len(others) for text, others in texts(config).items()} == {
        "Say it": 2,
        "Name it": 2,
    }
    first, second = texts(config)["Say it"]
    assert first != second
    assert first.startswith("In other words, "), "without the quotes"
    assert first.endswith(": SAY IT!")
    asked = questions(server)
    assert {request.body["model"] for request in asked} == {"writer"}
    assert {request.headers["Authorization"] for request in asked} == {"Bearer secret"}
    assert asked[0].body["max_tokens"] == 512
    assert asked[0].body["top_p"] == 1
    assert "top_k" not in asked[0].body, "which vLLM alone knows"
    assert len({request.body["seed"] for request in asked}) == 4
    # And the design can be scored.
    builder = PromptBuilder(gpt2(), config.prompt, 999)
    plan = plan_task(TASKS[0], config, builder)
    prompts = [pair.prompt for pair in plan_pairs(plan, [(1,)] * 3, config, builder)]
    assert len(set(prompts)) == 9
    assert f"Definition: {first}\n" in builder.tokenizer.decode(list(prompts[3]))


def test_the_engines_generation_config_decides_nothing(server: Server, tmp_path: Path) -> None:
    listed = b'{"data": [{"id": "writer", "owned_by": "vllm"}]}'
    server.answer = lambda request: (
        Answer(chunks=[listed]) if request.method == "GET" else paraphrasing(request)
    )
    filled_by(server.url, design(), TASKS, tmp_path / "kept.jsonl")
    sent = questions(server)[0].body
    wanted = {"top_p": 1, "top_k": 0, "min_p": 0, "repetition_penalty": 1, "n": 1}
    assert {name: sent[name] for name in wanted} == wanted


def test_what_is_kept_is_not_asked_for_again(server: Server, tmp_path: Path) -> None:
    server.answer = paraphrasing
    kept = tmp_path / "deep" / "kept.jsonl"

    def fill(config: ScoreConfig) -> ScoreConfig:
        return filled_by(server.url, config, TASKS, kept)

    first = fill(design())
    n_asked = len(questions(server))
    assert fill(design()) == first
    assert len(questions(server)) == n_asked == 4
    assert fill(first) == first, "and a full design asks nobody"
    more = fill(design(k=3))
    assert len(questions(server)) == 6
    assert texts(more)["Say it"][:2] == texts(first)["Say it"]
    for other in (
        design(seed=1),
        design(Paraphrase(endpoint=ParaphraseEndpoint(temperature=0.5))),
        design(Paraphrase(endpoint=ParaphraseEndpoint(instruction="Again: {text}"))),
        design(Paraphrase(endpoint=ParaphraseEndpoint(model="other"))),
    ):
        before = len(questions(server))
        fill(other)
        assert len(questions(server)) == before + 4


def test_a_torn_line_is_asked_for_again(server: Server, tmp_path: Path) -> None:
    server.answer = paraphrasing
    kept = tmp_path / "kept.jsonl"
    first = filled_by(server.url, design(), TASKS, kept)
    whole = kept.read_bytes()
    kept.write_bytes(whole[:-9])
    assert filled_by(server.url, design(), TASKS, kept) == first
    assert len(questions(server)) == 5
    assert sorted(kept.read_bytes().splitlines()) == sorted(whole.splitlines())
    kept.write_bytes(b"{}\n" + whole)
    with pytest.raises(InputError, match="broken line: Field required") as caught:
        filled_by(server.url, design(), TASKS, kept)
    assert (caught.value.file, caught.value.record) == (str(kept), "line 1")


def test_a_call_that_broke_off_goes_on_where_it_stood(server: Server, tmp_path: Path) -> None:
    server.answer = lambda request: (
        Answer(401, [b'{"error": {"message": "who are you?"}}'])
        if request.body and text_of(request) == "Name it"
        else paraphrasing(request)
    )
    endpoint = ParaphraseEndpoint(concurrency=1)
    kept = tmp_path / "kept.jsonl"
    with pytest.raises(EngineError, match="answered 401: who are you"):
        filled_by(server.url, design(Paraphrase(endpoint=endpoint)), TASKS, kept)
    assert len(kept.read_bytes().splitlines()) == 2
    server.answer, server.requests = paraphrasing, []
    filled_by(server.url, design(Paraphrase(endpoint=endpoint)), TASKS, kept)
    assert [text_of(request) for request in questions(server)] == ["Name it"] * 2


def answering(*answers: Answer) -> Callable[[Request], Answer]:
    waiting = iter(answers)
    return lambda request: models("writer") if request.method == "GET" else next(waiting)


def fill_one(server: Server, tmp_path: Path, step: Paraphrase, **task: Any) -> tuple[str, ...]:
    config = design(step, k=1)
    one = make_task(definition="Say yes or no").model_copy(update=task)
    filled = filled_by(server.url, config, [one], tmp_path / "kept")
    return texts(filled)["Say yes or no"]


def test_what_is_no_paraphrase_is_asked_for_again(server: Server, tmp_path: Path) -> None:
    server.answer = answering(
        said(""), said(" say YES or  no\n"), said("Tell me y", "length"), said(" 'Tell me' ")
    )
    assert fill_one(server, tmp_path, Paraphrase()) == ("Tell me",)
    assert len({request.body["seed"] for request in questions(server)}) == 4


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (said(None), "the last answer was empty"),
        (said("Say yes or no"), "the last answer was the text itself"),
        (said("Tell", "length"), "the last answer was cut at 512 tokens"),
        (said("Agree, or say nothing"), "the last answer left out no, yes"),
    ],
)
def test_a_text_without_paraphrase_is_named(
    server: Server, tmp_path: Path, answer: Answer, problem: str
) -> None:
    server.answer = answering(*[answer] * 4)
    step = Paraphrase(protect_labels=True)
    with pytest.raises(InputError, match=problem) as caught:
        fill_one(server, tmp_path, step, labels=("Yes", "no", "maybe"))
    assert (caught.value.record, caught.value.field) == ("colors", "perturbation.endpoint")
    assert len(questions(server)) == 4


def test_protected_labels_stay(server: Server, tmp_path: Path) -> None:
    server.answer = answering(said("Agree or not"), said("Is it so? NO, or YES?"))
    step = Paraphrase(protect_labels=True)
    found = fill_one(server, tmp_path, step, labels=("Yes", "no", "maybe"))
    assert found == ("Is it so? NO, or YES?",)


def test_a_busy_server_is_asked_again(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("engine.client.chat_client.time.sleep", pauses.append)
    broken = Answer(200, [b"{"], cut=True)
    server.answer = answering(Answer(429), broken, Answer(503), said("Tell me"))
    assert fill_one(server, tmp_path, Paraphrase()) == ("Tell me",)
    assert pauses == [0.5, 1.0, 2.0]


def test_an_engine_that_is_started_again_is_waited_for(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("engine.client.chat_client.time.sleep", pauses.append)
    away = [Answer(503)] * (2 * chat_client.TRIES)
    server.answer = answering(*away, said("Tell me"), Answer(500), *[Answer(500)] * 9)
    one = [make_task(definition="Say it")]
    engine = EngineAt(server.url, None, patience_s=180.0)
    with ParaphraseJournal(tmp_path / "kept") as kept:
        assert texts(fill_from(kept, design(k=1), one, engine)) == {"Say it": ("Tell me",)}
        assert pauses == [0.5, 1.0, 2.0, *[4.0] * 7]
        with pytest.raises(EngineError, match="answered 500"):  # it is there, and fails at it
            fill_from(kept, design(k=1, seed=1), one, engine)
    assert len(questions(server)) == 11 + chat_client.TRIES


def test_nobody_waits_for_an_engine_once_one_answer_has_failed(
    server: Server, tmp_path: Path
) -> None:
    asked = threading.Event()

    def answer(request: Request) -> Answer:
        if request.method == "GET":
            return models("writer")
        if text_of(request) == "Name it":
            asked.set()
            return Answer(503)
        asked.wait()
        return Answer(401)

    server.answer = answer
    engine = EngineAt(server.url, None, patience_s=3_600.0)
    with ParaphraseJournal(tmp_path / "kept") as kept, pytest.raises(EngineError, match="401"):
        fill_from(kept, design(k=1), TASKS, engine)


@pytest.mark.parametrize(
    ("answer", "kind", "problem"),
    [
        (Answer(400, [b'{"error": {"message": "no such model"}}']), InputError, "no such model"),
        (Answer(404, [b"nothing here"]), EngineError, "answered 404: nothing here"),
        (Answer(500, [b"sorry"]), EngineError, "answered 500: sorry"),
        (Answer(200, [b"hello"]), EngineError, "answer is not understood"),
        (Answer(200, [b'{"choices": []}']), EngineError, "answer is not understood"),
    ],
)
def test_failures_are_told(
    server: Server, tmp_path: Path, answer: Answer, kind: type[Exception], problem: str
) -> None:
    server.answer = lambda request: models("writer") if request.method == "GET" else answer
    with pytest.raises(kind, match=problem):
        fill_one(server, tmp_path, Paraphrase())
    assert len(questions(server)) == (chat_client.TRIES if answer.status == 500 else 1)


def test_an_endpoint_that_is_not_there_is_told(tmp_path: Path) -> None:
    gone = Server()
    gone.close()
    step = Paraphrase(endpoint=ParaphraseEndpoint(url=f"{gone.url}/v1", model="m"))
    with pytest.raises(EngineError, match=r"POST http://127.0.0.1:\d+/v1/chat/completions: "):
        filled_by(None, design(step), TASKS, tmp_path / "kept")
    wrong = Paraphrase(endpoint=ParaphraseEndpoint(url="nowhere", model="m"))
    with pytest.raises(InputError, match="'nowhere' is no address"):
        filled_by(None, design(wrong), TASKS, tmp_path / "kept")
    with pytest.raises(InputError, match="no endpoint is named and no engine is running"):
        filled_by(None, design(), TASKS, tmp_path / "kept")


def test_the_key_of_another_endpoint_comes_from_the_environment(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.answer = paraphrasing
    url = f"{server.url}/v1/"

    def fill(**endpoint: Any) -> None:
        step = Paraphrase(endpoint=ParaphraseEndpoint(url=url, **endpoint))
        filled_by("http://x", design(step), TASKS, tmp_path / "kept", "own")

    fill()
    assert all("Authorization" not in request.headers for request in server.requests)
    with pytest.raises(InputError, match="the environment variable PARROT_KEY is not set"):
        fill(api_key_env="PARROT_KEY", temperature=0.5)
    monkeypatch.setenv("PARROT_KEY", "theirs")
    fill(api_key_env="PARROT_KEY", temperature=0.5)
    assert questions(server)[-1].headers["Authorization"] == "Bearer theirs"


def test_only_texts_that_are_shown_are_asked_for(server: Server, tmp_path: Path) -> None:
    server.answer = paraphrasing
    targets = ("example_inputs",)
    tasks = [make_task(n_positive=4, n_negative=2)]
    prompt = PromptConfig(n_positive_examples=2, n_negative_examples=1)

    def asked(perturbation: Step) -> set[str]:
        server.requests = []
        config = design(perturbation, k=1, prompt=prompt)
        filled = filled_by(server.url, config, tasks, tmp_path / "kept")
        plan_task(tasks[0], filled, PromptBuilder(gpt2(), prompt, 4096))
        return {text_of(request) for request in questions(server)}

    inputs = [one.input for one in tasks[0].positive_examples]
    wrong = [one.input for one in tasks[0].negative_examples]
    step = Paraphrase(targets=targets)
    assert asked(step) == {*inputs[:2], wrong[0]}
    # Any example may come to be shown.
    composed = Compose(steps=(ResampleExamples(), step, Typos()))
    assert asked(composed) == {*inputs[2:], wrong[1]}, "those that are not kept yet"


def test_paraphrases_by_hand_come_first(server: Server, tmp_path: Path) -> None:
    server.answer = paraphrasing
    step = Paraphrase(texts={"Say it": ("Tell me",), "Name it": ("Call it", "What is it?")})
    filled = filled_by(server.url, design(step), TASKS, tmp_path / "kept")
    assert texts(filled)["Name it"] == ("Call it", "What is it?")
    assert texts(filled)["Say it"][0] == "Tell me"
    assert len(questions(server)) == 1


def test_other_perturbations_ask_nobody() -> None:
    assert not asks_for_paraphrases(design(DropWords()))


def test_so_many_requests_are_under_way_at_once(server: Server, tmp_path: Path) -> None:
    all_there = threading.Barrier(3, timeout=600)

    def answer(request: Request) -> Answer:
        if request.method == "POST":
            all_there.wait()
        return paraphrasing(request)

    server.answer = answer
    step = Paraphrase(endpoint=ParaphraseEndpoint(concurrency=3))
    filled = filled_by(server.url, design(step, k=3), TASKS, tmp_path / "kept")
    assert all(len(found) == 3 for found in texts(filled).values())


def test_a_request_carries_the_paraphrases_of_its_own_tasks() -> None:
    step = Paraphrase(texts={"Say it": ("Tell",), "Name it": ("Call",), "old": ("older",)})
    assert step.only_for(TASKS[:1]).texts == {"Say it": ("Tell",)}
    composed = Compose(steps=(step, DropWords())).only_for(TASKS[1:])
    assert composed == Compose(steps=(Paraphrase(texts={"Name it": ("Call",)}), DropWords()))


def score_blocking(url: str, kept: Path) -> list[str]:
    with EngineClient(url, tasks_per_request=1, paraphrases=kept) as client:
        return [score.task_id for score in client.score(TASKS, design())]


def score_in_a_loop(url: str, kept: Path) -> list[str]:
    async def run() -> list[str]:
        async with AsyncEngineClient(url, tasks_per_request=1, paraphrases=kept) as client:
            return [score.task_id async for score in client.score(TASKS, design())]

    return asyncio.run(run())


@pytest.mark.parametrize("score", [score_blocking, score_in_a_loop])
def test_the_client_has_them_written_before_it_scores(
    server: Server, tmp_path: Path, score: Callable[[str, Path], list[str]]
) -> None:
    seen: list[str] = []

    def answer(request: Request) -> Answer:
        seen.append(request.path)
        if request.path != "/v1/prompt_uncertainty":
            return paraphrasing(request)
        step = request.body["config"]["perturbation"]
        (task,) = request.body["tasks"]
        assert list(step["texts"]) == [task["definition"]]
        assert len(step["texts"][task["definition"]]) == 2
        line = make_score(task["id"]).model_dump_json()
        totals = StreamTotals(tasks=1, weights_version="v", usage=Usage())
        return Answer(chunks=[f"{line}\n{totals.model_dump_json()}\n".encode()])

    server.answer = answer
    kept = tmp_path / "kept.jsonl"
    assert score(server.url, kept) == ["a", "b"]
    first, seen[:] = list(seen), []
    assert score(server.url, kept) == ["a", "b"]
    part = ["/v1/models", *["/v1/chat/completions"] * 2, "/v1/prompt_uncertainty"]
    assert first == part * 2
    assert seen == ["/v1/models", "/v1/prompt_uncertainty"] * 2
