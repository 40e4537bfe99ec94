"""Fills a design's paraphrases before the scoring, by any server with OpenAI's chat completions."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from engine.client.chat_client import ChatClient
from engine.client.paraphrase_journal import ParaphraseJournal
from engine.client.wire import server_address
from engine.errors import InputError
from engine.perturb import Compose, Paraphrase, ResampleExamples, Shown
from engine.perturb.base import Step, label_spans
from engine.perturb.paraphrase import ParaphraseEndpoint, targeted_texts
from engine.protocol.score_config import ScoreConfig
from engine.tasks import Task

_TEXTS_AT_ONCE = 64


class EngineAt(NamedTuple):
    """The scoring engine, who writes the paraphrases if a design names no other endpoint.

    Attributes:
        url: Its address, without `/v1`.
        api_key: Its key.
        patience_s: Seconds to wait for it when it has gone away.
    """

    url: str | None
    api_key: str | None
    patience_s: float = 0.0


class _Wanted(NamedTuple):
    """A text that needs paraphrases.

    Attributes:
        text: The text.
        task_id: The first task that has it, for messages.
        labels: What a paraphrase must mention, in lower case.
        given: How many paraphrases there are already.
    """

    text: str
    task_id: str
    labels: tuple[str, ...]
    given: int


def asks_for_paraphrases(config: ScoreConfig) -> bool:
    """Whether the design's perturbation, or a step of it, is a paraphrase."""
    return any(isinstance(step, Paraphrase) for step in _steps(config.perturbation))


def fill_from(
    journal: ParaphraseJournal, config: ScoreConfig, tasks: Iterable[Task], engine: EngineAt
) -> ScoreConfig:
    """The design with k paraphrases of every text that its perturbation puts other words for.

    Paraphrases that the design has are kept, those in the journal are taken from there, and the
    others are asked for. Each is on disk before the next is waited for, so that a call that was
    broken off goes on where it stood. Every request carries a seed of its own that follows from the
    design's; whether the same words come back is then up to the server.

    Args:
        journal: Open; keeps paraphrases by text and by all that decides their words: model,
            instruction, sampling, seed and protected labels.
        config: The design, one that asks for paraphrases.
        tasks: The tasks to be scored, or a part of them.
        engine: Who writes the paraphrases if the design names no other endpoint.

    Raises:
        InputError: If there is nobody to ask, the endpoint finds fault with a request, or no
            paraphrase of a text could be taken.
        EngineError: If the endpoint cannot be reached or fails, however often it is asked.
    """
    steps = _steps(config.perturbation)
    known = tuple(tasks)
    shown = Shown(config.prompt.n_positive_examples, config.prompt.n_negative_examples)
    if any(isinstance(step, ResampleExamples) for step in steps):
        most = max((len(t.positive_examples) + len(t.negative_examples) for t in known), default=0)
        shown = Shown(most, most)
    filled = [
        _filled(step, known, shown, config, journal, engine)
        if isinstance(step, Paraphrase)
        else step
        for step in steps
    ]
    perturbation = config.perturbation
    if isinstance(perturbation, Compose):
        return config.model_copy(
            update={"perturbation": perturbation.model_copy(update={"steps": tuple(filled)})}
        )
    return config.model_copy(update={"perturbation": filled[0]})


def _steps(perturbation: Step) -> tuple[Step, ...]:
    return perturbation.steps if isinstance(perturbation, Compose) else (perturbation,)


def _filled(
    step: Paraphrase,
    tasks: Sequence[Task],
    shown: Shown,
    config: ScoreConfig,
    journal: ParaphraseJournal,
    engine: EngineAt,
) -> Paraphrase:
    k = config.perturbations[-1]
    texts = dict(step.texts)
    wanted = [one for one in _wanted(step, tasks, shown) if one.given < k]
    if not wanted:
        return step
    endpoint = step.endpoint
    with (
        _client(endpoint, engine) as client,
        ThreadPoolExecutor(endpoint.concurrency) as threads,
    ):
        model = client.model
        for batch in _batches(wanted):
            jobs = [(one, number) for one in batch for number in range(one.given + 1, k + 1)]

            def ask(job: tuple[_Wanted, int]) -> str:
                one, number = job
                key = _key(one, number, endpoint, model, config.seed)
                found = journal.get(key)
                return found or journal.append(key, one.text, _asked(one, key, endpoint, client))

            running = [threads.submit(ask, job) for job in jobs]
            try:
                for (one, _), answer in zip(jobs, running, strict=True):
                    texts[one.text] = (*texts.get(one.text, ()), answer.result())
            except BaseException:
                client.hurry()
                raise
            finally:
                for answer in running:
                    answer.cancel()
    return step.model_copy(update={"texts": texts})


def _wanted(step: Paraphrase, tasks: Sequence[Task], shown: Shown) -> list[_Wanted]:
    """Each text once, with the labels that every task with this definition protects."""
    found: dict[str, _Wanted] = {}
    for task in tasks:
        for text in targeted_texts(task, step.targets, shown):
            labels: set[str] = set()
            if step.protect_labels and text == task.definition:
                labels = {text[start:end].lower() for start, end in label_spans(task)}
            if text in found:
                labels |= set(found[text].labels)
            first = found[text].task_id if text in found else task.id
            given = len(step.texts.get(text, ()))
            found[text] = _Wanted(text, first, tuple(sorted(labels)), given)
    return list(found.values())


def _batches(wanted: Sequence[_Wanted]) -> Iterator[tuple[_Wanted, ...]]:
    waiting = iter(wanted)
    while batch := tuple(itertools.islice(waiting, _TEXTS_AT_ONCE)):
        yield batch


def _client(endpoint: ParaphraseEndpoint, engine: EngineAt) -> ChatClient:
    """Who is asked: the endpoint, or else the engine."""
    key = engine.api_key
    if endpoint.api_key_env is not None:
        key = os.environ.get(endpoint.api_key_env)
        if not key:
            raise InputError(
                f"the environment variable {endpoint.api_key_env} is not set",
                field="perturbation.endpoint.api_key_env",
            )
    elif endpoint.url is not None:
        key = None  # the engine's key is nobody else's business
    if endpoint.url is not None:
        server_address(endpoint.url, "perturbation.endpoint.url")
    url = endpoint.url or (f"{engine.url.rstrip('/')}/v1" if engine.url else None)
    if url is None:
        raise InputError(
            "no endpoint is named and no engine is running that could write paraphrases",
            field="perturbation.endpoint.url",
        )
    # A proxy stands before other servers at most, not before one's own.
    return ChatClient(
        url,
        key,
        endpoint.timeout_s,
        endpoint.model,
        proxies=bool(endpoint.url),
        patience_s=0.0 if endpoint.url else engine.patience_s,
    )


def _key(one: _Wanted, number: int, endpoint: ParaphraseEndpoint, model: str, seed: int) -> str:
    decisive = [
        one.text,
        one.labels,
        number,
        model,
        endpoint.instruction,
        endpoint.temperature,
        endpoint.max_tokens,
        seed,
    ]
    return hashlib.sha256(json.dumps(decisive).encode()).hexdigest()


def _asked(one: _Wanted, key: str, endpoint: ParaphraseEndpoint, client: ChatClient) -> str:
    """A paraphrase that can be taken."""
    question = endpoint.instruction.replace("{text}", one.text)
    problem = ""
    for attempt in range(endpoint.attempts):
        seed = int(hashlib.sha256(f"{key}/{attempt}".encode()).hexdigest()[:7], 16)
        answer = client.ask(question, endpoint.temperature, endpoint.max_tokens, seed)
        text = _unquoted(answer.text, one.text)
        problem = "" if answer.whole else f"was cut at {endpoint.max_tokens} tokens"
        problem = problem or _fault(text, one)
        if not problem:
            return text
    raise InputError(
        f"no paraphrase of the text that begins {one.text[:40]!r} could be taken in "
        f"{endpoint.attempts} attempts; the last answer {problem}",
        record=one.task_id,
        field="perturbation.endpoint",
    )


def _unquoted(answer: str, text: str) -> str:
    """The answer without the marks that models like to put around it."""
    stripped = answer.strip()
    for mark in ('"', "'", "`"):
        around = len(stripped) > 1 and stripped[0] == stripped[-1] == mark
        if around and not text.strip().startswith(mark):
            return stripped[1:-1].strip()
    return stripped


def _fault(paraphrase: str, one: _Wanted) -> str:
    """Why this is no paraphrase that can be taken, as the rest of a sentence; empty if it is."""
    if not paraphrase:
        return "was empty"
    if paraphrase.casefold().split() == one.text.casefold().split():
        return "was the text itself"
    mentioned = label_spans(Task(id="answer", definition=paraphrase, labels=one.labels))
    there = {paraphrase[start:end].lower() for start, end in mentioned}
    missing = [label for label in one.labels if label not in there]
    return f"left out {', '.join(missing)}" if missing else ""
