"""The engine as the loop sees it: never used without knowing which weights are live."""

from __future__ import annotations

from pathlib import Path

from engine.errors import EngineError, InputError
from engine.prompts import PromptBuilder
from engine.protocol.engine_calls import Engine
from engine.protocol.weights_state import WeightsState
from engine.weights.manifest import MANIFEST_NAME, read_manifest
from engine.weights.models import local_folder
from training.run.base_model import weights_here
from training.run.run_folder import RunFolder
from training.run.state import RunState

_GO_BACK = "jostle reload --base goes back to what the engine was started with"


def require_live(engine: Engine, folder: RunFolder, state: RunState) -> str:
    """Have the weights live that the next step needs; their version.

    An engine that was started anew serves the base model, so the last checkpoint is loaded again.

    Raises:
        InputError: If the engine serves another model than the run began with.
        EngineError: If the base model is needed and something else is live, or a load fails.
    """
    version, weights = state.live_version, engine.weights()
    check_model(weights, state)
    live = weights.version
    if live != version and state.live_round is None:
        check_version(live, version, "the engine", f"; {_GO_BACK}")
    elif live != version:
        assert state.live_round is not None
        make_live(engine, folder.round(state.live_round).checkpoint, version)
    return version


def check_model(weights: WeightsState, state: RunState) -> None:
    """`InputError` if an engine serves another model than that which a run began with."""
    if other := state.base.difference(weights):
        raise InputError(
            f"the run began with another model than the engine serves, {other}",
            field="engine.urls",
        )


def check_prompts(weights: WeightsState, builder: PromptBuilder, model: str, *, new: bool) -> None:
    """That an engine which was started by others serves the model that a run trains.

    Args:
        model: Folder or hub id of the run's model.
        new: Whether the run begins.

    Raises:
        InputError: If tokenizer, context or weights are others, or, where the run begins, others
            have been loaded.
    """
    served, folder = weights.served, local_folder(model)
    served.check_tokenizer(builder.tokenizer, model)
    if served.max_model_len != builder.max_model_len:
        raise InputError(
            f"is {builder.max_model_len} tokens, the context of the engine {served.max_model_len}",
            field="model.max_model_len",
        )
    own = weights_here(model)
    if weights.is_base and own not in (None, served.weights):
        raise InputError(
            f"the engine serves {served.model} ({served.weights[:12]}), whose weights are not "
            f"those of {model} ({own[:12]})",
            field="model.name",
        )
    published = (folder / MANIFEST_NAME).is_file() and read_manifest(folder).version
    if new and not weights.is_base and weights.version != published:
        raise InputError(
            f"the engine serves {weights.in_words()}, which was loaded later; a run begins with "
            f"{model}: {_GO_BACK}",
            field="engine.urls",
        )


def make_live(engine: Engine, checkpoint: Path, version: str) -> None:
    """Load a published checkpoint unless it is live, and ask the engine what is live then.

    Raises:
        InputError: If the checkpoint folder cannot be read, or is not this version.
        EngineError: If the load fails, or the engine names another version afterwards.
    """
    if engine.weights().version != version:
        check_readable(checkpoint, version)
        engine.load_weights(checkpoint, version)
    check_version(engine.weights().version, version, "the engine after the reload")


def go_back(engine: Engine) -> None:
    """Have the weights live again that the engine was started with, unless they are.

    Raises:
        InputError: If they are no longer there, or the engine cannot tell whether it has them.
        EngineError: If the load fails, or the engine names another version afterwards.
    """
    weights = engine.weights()
    if not weights.is_start:
        engine.load_weights(Path(weights.served.model), weights.served.version)
        if not (found := engine.weights()).is_start:
            raise EngineError(f"the engine serves {found.in_words()} after it was to go back")


def check_readable(checkpoint: Path, version: str) -> None:
    """Find out whether a published checkpoint is there, before an engine is asked to load it.

    Raises:
        InputError: If it cannot be read, or belongs to another version.
    """
    try:
        found = read_manifest(checkpoint).version
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", file=checkpoint) from error
    if found != version:
        raise InputError(f"holds {found!r}, not {version!r}", file=checkpoint)


def check_version(found: str, expected: str, where: str, hint: str = "") -> None:
    """`EngineError` unless `found` is the expected weights version."""
    if found != expected:
        raise EngineError(f"{where} belongs to weights {found!r}, not {expected!r}{hint}")
