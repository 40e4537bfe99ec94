"""The front door for Python: a scorer that starts an engine, or asks one that runs."""

from __future__ import annotations

import contextlib
import os
import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from pydantic import TypeAdapter, ValidationError

from engine.client import EngineClient
from engine.client.sampling import Prompt
from engine.client.wire import UNSUPERVISED_PATIENCE_S
from engine.errors import EngineError, InputError
from engine.keys import client_keys
from engine.process.engine_process import EngineProcess
from engine.process.settings import flag_value
from engine.protocol.api import SkippedTask, TaskScore
from engine.protocol.completions import (
    CompletionLogprobs,
    Encoding,
    Message,
    Pair,
    SkippedPair,
)
from engine.protocol.samples import Sample
from engine.protocol.score_config import ScoreConfig
from engine.session.results import Results
from engine.tasks import Task
from engine.validation import first_fault, validated
from engine.weights.checkpoint_check import check_whole
from engine.weights.models import model_name, resolve_model

_PAIR: TypeAdapter[Pair] = TypeAdapter(Pair)
_CONVERSATION = TypeAdapter(tuple[Message, ...])


class Scorer:
    """Asks a model how likely texts are, how sure it is of tasks, and what it would say.

    A context manager. Without `with`, the engine is started by the first question and ended by
    `close`, when the scorer is forgotten, or with Python. It works where an event loop runs, as in
    a notebook, and stops it for as long.

        with Scorer("smollm2-135m") as scorer:
            scorer.logprobs([("The capital of France is", " Paris")])

    Args:
        model: `smollm2-135m`, a folder or a hub id, which an engine of one's own is started on.
        url: An engine that runs, in place of a model.
        api_key: Its key; None: as the environment says (`JOSTLE_API_KEY`, `VLLM_API_KEY`).
        engine_args: vLLM flags of the engine that is started.
        trust_remote_code: Whether code that comes with the model may run.
        log_file: Takes the engine's output; None: a file that goes with the engine.

    Raises:
        InputError: If there is not exactly one of `model` and `url`, or it is not acceptable.
    """

    def __init__(
        self,
        model: str | None = None,
        *,
        url: str | None = None,
        api_key: str | None = None,
        engine_args: Sequence[str] = (),
        trust_remote_code: bool = False,
        log_file: Path | None = None,
    ) -> None:
        if (model is None) == (url is None):
            raise InputError("either a model or the url of an engine", field="model")
        if url is not None and (engine_args or trust_remote_code or log_file):
            raise InputError("goes with a model that is started, not with a url", field="url")
        self._key = api_key or client_keys(os.environ).api
        self._model = model
        self._start_with = (tuple(engine_args), trust_remote_code, log_file)
        self._open = contextlib.ExitStack()
        self.close = weakref.finalize(self, self._open.close)
        """Ends the engine, if it was started here, and all connections; safe to call again."""
        self._client: EngineClient | None = None
        self._own: EngineProcess | None = None
        if url is not None:
            self._client = self._open.enter_context(EngineClient(url, self._key))

    def __enter__(self) -> Self:
        self.client()
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def logprobs(
        self,
        pairs: Iterable[Pair | Mapping[str, Any] | tuple[str | Sequence[Mapping[str, str]], str]],
        encoding: Encoding | None = None,
        *,
        tokens: bool = False,
        on_skip: Callable[[SkippedPair], None] | None = None,
        **how: Any,
    ) -> Results[CompletionLogprobs]:
        """How likely each completion is after its prompt, in order.

        Args:
            pairs: Prompt and completion each, as texts; or a conversation, as a list of messages
                with `role` and `content`, and its answer; or any pair of
                `engine.protocol.completions`, token ids among them.
            encoding: How texts become token ids.
            tokens: Whether results tell of each token.
            on_skip: Called with each pair that cannot be scored; without it, that is an error.
            how: Fields of the encoding, such as `boundary="separate"`.

        Raises:
            InputError: If a pair cannot be scored; it is named `pairs[i]`.
            EngineError: If the engine cannot be started or reached, or fails.
        """
        chosen = validated(Encoding, {**(encoding or Encoding()).model_dump(), **how})
        given = (_as_pair(index, pair) for index, pair in enumerate(pairs))
        client = self.client()
        with self.explaining():
            found = client.logprobs(given, chosen, tokens=tokens, on_skip=on_skip)
            return Results(sorted(found, key=lambda result: result.index))

    def prompt_uncertainty(
        self,
        tasks: Iterable[Task | Mapping[str, Any]],
        config: ScoreConfig | None = None,
        *,
        on_skip: Callable[[SkippedTask], None] | None = None,
        **design: Any,
    ) -> Results[TaskScore]:
        """How much the likelihood of the model's own answers depends on how each task is worded.

        Args:
            tasks: Tasks, or their fields; a pool is an iterable of such.
            config: What to measure.
            on_skip: Called with each task that cannot be scored; without it, that is an error.
            design: Fields of the config, such as `n_instances=5`.

        Returns:
            A score per task, in order.

        Raises:
            InputError: If a task cannot be scored.
            EngineError: If the engine cannot be started or reached, or fails.
        """
        chosen = validated(ScoreConfig, {**(config or ScoreConfig()).model_dump(), **design})
        given = [
            task if isinstance(task, Task) else validated(Task, dict(task), f"tasks[{index}]")
            for index, task in enumerate(tasks)
        ]
        places = {task.id: place for place, task in enumerate(given)}
        client = self.client()
        with self.explaining():
            found = client.score(given, chosen, on_skip)
            return Results(sorted(found, key=lambda score: places[score.task_id]))

    def samples(
        self,
        prompts: Iterable[str | Prompt | Sequence[Mapping[str, str]]],
        n: int = 1,
        *,
        max_tokens: int = 64,
        temperature: float = 1.0,
        top_p: float = 1.0,
        seed: int = 0,
    ) -> Results[Sample]:
        """So many outputs of each prompt, a text or a conversation, in order.

        Raises:
            InputError: If the engine finds fault with a prompt.
            EngineError: If the engine cannot be started or reached, or fails.
        """
        given = [_as_prompt(index, prompt) for index, prompt in enumerate(prompts)]
        client = self.client()
        with self.explaining():
            return Results(
                client.samples(
                    given, n, max_tokens=max_tokens, temperature=temperature, top_p=top_p, seed=seed
                )
            )

    @contextlib.contextmanager
    def explaining(self) -> Iterator[None]:
        """Has an `EngineError` say what an engine of one's own said last, if it has ended."""
        try:
            yield
        except EngineError as error:
            if self._own is None or not self.close.alive:
                raise
            # A log that nobody asked for goes with the scorer.
            explained = self._own.explained(error, log=self._start_with[2] is not None)
            if explained is None:
                raise
            raise explained from error

    def client(self) -> EngineClient:
        """The client of the engine, which is started if it was not yet.

        Raises:
            EngineError: If it does not start, or the scorer was closed.
        """
        if not self.close.alive:
            raise EngineError("the scorer is closed")
        if self._client is None:
            assert self._model is not None
            extra_args, trusted, log_file = self._start_with
            location = str(resolve_model(self._model))
            check_whole(location, flag_value(extra_args, "load-format"))
            with contextlib.ExitStack() as begun:
                if log_file is None:
                    folder = begun.enter_context(tempfile.TemporaryDirectory(prefix="jostle-"))
                    log = Path(folder) / "engine.log"
                else:
                    log = log_file
                process = begun.enter_context(
                    EngineProcess.start(
                        location,
                        weights_root=None,
                        log_file=log,
                        name=model_name(self._model),
                        trust_remote_code=trusted,
                        extra_args=extra_args,
                    )
                )
                try:
                    process.wait_ready()
                except EngineError as error:
                    # The log that it names goes with the folder.
                    said = str(error).removesuffix("" if log_file else f" (log: {log})")
                    raise EngineError(said) from error
                client = EngineClient(process.url, self._key, patience_s=UNSUPERVISED_PATIENCE_S)
                self._client = begun.enter_context(client)
                self._own = process
                self._open.push(begun.pop_all())
        return self._client


def _as_pair(index: int, given: Any) -> Pair:
    """A pair as a record; `InputError` naming it if it is none."""
    if isinstance(given, tuple) and len(given) == 2:
        prompt, completion = given
        given = {"prompt" if isinstance(prompt, str) else "messages": prompt}
        given["completion"] = completion
    try:
        return _PAIR.validate_python(given)
    except ValidationError as error:
        problem, place = first_fault(error)
        # The first part of the place is the form of the pair.
        field = (place or "").partition(".")[2]
        raise InputError(problem, record=f"pairs[{index}]", field=field or None) from error


def _as_prompt(index: int, given: Any) -> Prompt:
    if isinstance(given, str):
        return given
    try:
        return _CONVERSATION.validate_python(given)
    except ValidationError as error:
        problem, field = first_fault(error)
        raise InputError(problem, record=f"prompts[{index}]", field=field) from error
