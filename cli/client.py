"""How commands reach a running engine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from engine.client import AsyncEngineClient, EngineClient
    from engine.prompts import PromptBuilder
    from engine.prompts.prompt_config import PromptConfig
    from engine.protocol.weights_state import WeightsState
    from training.commands.launch import EngineFiles
    from training.config.run_config import ModelConfig
    from training.report.display import RichProgress

EngineUrl = Annotated[str, typer.Option(help="URL of the running engine.")]
OwnUrl = Annotated[
    str | None, typer.Option(help="A running engine.", show_default="starts one on --model")
]
EngineModel = Annotated[
    str | None,
    typer.Option(
        help="Model to start: smollm2-135m (bundled), a hub id, or a folder; with --url, where the "
        "served tokenizer lies.",
        show_default="smollm2-135m; with --url, what the engine names",
    ),
]
EngineModelLen = Annotated[
    int | None,
    typer.Option(
        min=64,
        help="Its context, in tokens.",
        show_default="2048, or what the model holds; with --url, the engine's",
    ),
]
ApiKey = Annotated[
    str | None,
    typer.Option(help="Key of that engine.", show_default="JOSTLE_API_KEY, or the server's own"),
]
AdminKey = Annotated[
    str | None,
    typer.Option(help="Its key for loading weights.", show_default="JOSTLE_ADMIN_KEY"),
]


def connect(
    url: str,
    api_key: str | None = None,
    admin_key: str | None = None,
    paraphrases: Path | None = None,
) -> EngineClient:
    """A client with the keys that are given, or else with those of the environment.

    Raises:
        InputError: If the environment names a key twice, or a file that cannot be read.
    """
    from engine.client import EngineClient
    from engine.keys import client_keys

    keys = client_keys(os.environ, api_key, admin_key)
    return EngineClient(url, keys.api, admin_key=keys.admin, paraphrases=paraphrases)


def engine_model(
    model: str | None, max_model_len: int | None, *, trust_remote_code: bool
) -> ModelConfig:
    """What is started, by the options; what they leave open is as in a run's config, except that
    the context is never longer than the model's.
    """
    from engine.weights.models import default_context
    from training.config.run_config import ModelConfig

    given = {"name": model, "max_model_len": max_model_len}
    options = {name: value for name, value in given.items() if value is not None}
    chosen = ModelConfig.model_validate(options | {"trust_remote_code": trust_remote_code})
    if max_model_len is not None:
        return chosen
    length = default_context(chosen.name, chosen.max_model_len)
    return chosen.model_copy(update={"max_model_len": length})


def builder_at(
    url: str,
    api_key: str | None,
    prompt: PromptConfig,
    model: str | None,
    max_model_len: int | None,
    *,
    trust_remote_code: bool = False,
) -> PromptBuilder:
    """Prompts as the engine at a URL builds them.

    Args:
        model: Where its tokenizer is taken from; None: where the engine says.
        max_model_len: What its context must be, in tokens; None: whatever it is.
        trust_remote_code: Whether code that comes with the model may run.

    Raises:
        InputError: If the tokenizer is not there, or it or the context is another one.
    """
    from engine.errors import InputError
    from engine.prompts import PromptBuilder
    from engine.weights.identity import load_tokenizer

    with connect(url, api_key) as client:
        served = client.weights().served
    if max_model_len not in (None, served.max_model_len):
        problem = f"the engine's context is {served.max_model_len} tokens, not {max_model_len}"
        raise InputError(problem, field="--max-model-len")
    tokenizer = load_tokenizer(served, model, trust_remote_code=trust_remote_code)
    return PromptBuilder(tokenizer, prompt, served.max_model_len)


@dataclass(frozen=True)
class ChosenEngine:
    """The engine that options choose: one at a URL, or one that is started for as long as it takes.

    Attributes:
        url: Where it runs; None: it is started.
        api_key: Its key, if it is given.
        model: The model that is started, or whose tokenizer is served; None: see `EngineModel`.
        max_model_len: Its context, in tokens; None: see `EngineModelLen`.
        trust_remote_code: Whether code that comes with the model may run.
    """

    url: str | None
    api_key: str | None = field(repr=False)
    model: str | None
    max_model_len: int | None
    trust_remote_code: bool

    @cached_property
    def started(self) -> ModelConfig:
        """What is started without a URL."""
        return engine_model(
            self.model, self.max_model_len, trust_remote_code=self.trust_remote_code
        )

    @cached_property
    def location(self) -> str:
        """Folder or hub id of that model."""
        from engine.weights.models import resolve_model

        return str(resolve_model(self.started.name))

    def dtype(self) -> str:
        """The data type it computes in."""
        if self.url is None:
            from engine.process.settings import chosen_dtype

            return chosen_dtype(self.location)
        with connect(self.url, self.api_key) as client:
            return client.weights().served.dtype

    def check(self, prompt: PromptConfig) -> None:
        """What is named is there, and is what is served.

        The bundled model is not looked for: it may have to be downloaded or converted.

        Raises:
            InputError: If it is not.
        """
        from engine.weights.models import BUNDLED_MODEL, resolve_model

        if self.url is not None:
            if self.model is not None or self.max_model_len is not None:
                self.builder(prompt)
        elif self.started.name != BUNDLED_MODEL:
            resolve_model(self.started.name)

    def builder(self, prompt: PromptConfig) -> PromptBuilder:
        """Prompts as it builds them.

        Raises:
            InputError: As `builder_at`; if there is no such model.
        """
        trusted = self.trust_remote_code
        if self.url is not None:
            length = self.max_model_len
            return builder_at(
                self.url, self.api_key, prompt, self.model, length, trust_remote_code=trusted
            )
        from engine.prompts import PromptBuilder
        from engine.weights.identity import open_tokenizer

        tokenizer = open_tokenizer(self.location, "--model", trust_remote_code=trusted)
        return PromptBuilder(tokenizer, prompt, self.started.max_model_len)

    @contextmanager
    def open(self, files: EngineFiles, progress: RichProgress) -> Iterator[EngineClient]:
        """A client of it.

        Raises:
            InputError: As `connect`; if there is no such model.
            EngineError: If it does not come up.
        """
        if self.url is not None:
            with connect(self.url, self.api_key, paraphrases=files.paraphrases) as client:
                yield client
            return
        from training.commands.launch import OwnEngine

        with OwnEngine(self.location, self.started, files, progress) as own:
            yield own.client


@contextmanager
def engines_at(
    urls: Sequence[str],
    api_key: str | None,
    model: str | None,
    max_model_len: int | None,
    files: EngineFiles,
    progress: RichProgress,
    *,
    trust_remote_code: bool = False,
) -> Iterator[tuple[list[Callable[[], AsyncEngineClient]], WeightsState]]:
    """What makes a client of each engine at some URLs, or of one that is started; and its weights.

    Args:
        urls: Where engines run; none: one is started.
        model: The model that is started otherwise.
        max_model_len: Its context, in tokens.
        trust_remote_code: Whether its code may run.

    Raises:
        InputError: As `connect`; if a URL is given with what goes with a start, or twice; or if
            the engines serve different things.
        EngineError: If one does not answer, or does not come up.
    """
    from engine.client import AsyncEngineClient
    from engine.client.wire import PATIENCE_S, UNSUPERVISED_PATIENCE_S
    from engine.errors import InputError
    from engine.keys import client_keys
    from training.commands.launch import OwnEngine

    def maker(url: str, patience_s: float) -> Callable[[], AsyncEngineClient]:
        return lambda: AsyncEngineClient(url, keys.api, patience_s=patience_s)

    keys = client_keys(os.environ, api_key)
    if not urls:
        from engine.weights.models import resolve_model

        served = engine_model(model, max_model_len, trust_remote_code=trust_remote_code)
        with OwnEngine(str(resolve_model(served.name)), served, files, progress) as own:
            yield [maker(own.url, UNSUPERVISED_PATIENCE_S)], own.client.weights()
        return
    if len(set(urls)) < len(urls):
        raise InputError("the same engine is named twice", field="--url")
    if model is not None or max_model_len is not None:
        problem = "is of use where an engine is started, not with --url"
        raise InputError(problem, field="--max-model-len" if model is None else "--model")
    states = []
    for url in urls:
        with connect(url, api_key) as client:
            states.append(client.weights())
    for url, state in zip(urls, states, strict=True):
        other = states[0].difference(state)
        if other or state.version != states[0].version:
            raise InputError(
                f"{url} serves something else than {urls[0]}: {other or 'other weights'}"
            )
    # Where there are others, the work of an engine that died need not wait until it is back.
    patience_s = PATIENCE_S if len(urls) == 1 else UNSUPERVISED_PATIENCE_S
    yield [maker(url, patience_s) for url in urls], states[0]
