"""The model that a run starts from: where its name leads, and that it is still the same."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

from engine.errors import InputError
from engine.process.settings import flag_value
from engine.weights.checkpoint_check import PICKLES, check_whole
from engine.weights.identity import weights_identity
from engine.weights.manifest import MANIFEST_NAME, read_manifest
from engine.weights.models import (
    BUNDLED_MODEL,
    check_context,
    expanded,
    local_folder,
    looks_like_path,
    resolve_model,
)
from training.config.run_config import RunConfig
from training.run.run_folder import RunFolder
from training.run.state import RunState, read_state

_COMMIT = re.compile("[0-9a-f]{40}")
_ENDINGS = PICKLES | {".safetensors", ".gguf"}


def base_location(folder: RunFolder, name: str) -> str:
    """Folder or hub id that a run's model is loaded from.

    `smollm2-135m` and hub ids may lead elsewhere the next day. A run that has begun keeps to the
    files it began with, for as long as they are there.

    Args:
        name: See `engine.weights.models.resolve_model`.

    Raises:
        InputError: If there is no such model.
        EngineError: If the bundled model cannot be converted.
    """
    with suppress(InputError, OSError):  # whoever opens the run, or the model, tells
        if folder.state.is_file() and not (looks_like_path(name) or expanded(name).is_dir()):
            base = read_state(folder).base
            for place in (base.path,) if name == BUNDLED_MODEL else (name, base.path):
                if base.is_base and weights_here(place) == base.served.weights:
                    return place
    return str(resolve_model(name))


def check_base(state: RunState | None, model: str) -> None:
    """That a model is still the one that a run began with, as far as its files are here.

    Args:
        state: Of the run; None: it begins.
        model: Folder or hub id of the run's model.

    Raises:
        InputError: If it holds other weights.
    """
    if state is None:
        return
    base, folder = state.base, local_folder(model)
    if not Path(model).is_dir() and folder.name == Path(base.path).name:
        return  # the same commit of the hub
    if base.is_base:
        found, begun = weights_here(model), base.served.weights
    else:  # a published checkpoint
        manifest = folder / MANIFEST_NAME
        found = read_manifest(folder).version if manifest.is_file() else None
        begun = base.version
    commits = {path.name for path in (folder, Path(base.path)) if _COMMIT.fullmatch(path.name)}
    if found is None and len(commits) == 2:  # not here yet, and another commit of the hub
        found = folder.name
    if found not in (None, begun):
        raise InputError(
            f"{model} holds other weights ({found[:12]}) than the run began with, "
            f"{base.in_words()}; put them back, or take another run folder",
            field="model.name",
        )


def check_fit(config: RunConfig, model: str) -> None:
    """That what is here of a run's model can be loaded, with the context that the run asks for.

    Args:
        model: Folder or hub id of the run's model.

    Raises:
        InputError: If a file is broken, or an engine of the run's own would refuse the context.
    """
    check_whole(model, flag_value(config.engine.flags, "load-format"))
    if config.engine.urls or flag_value(config.engine.flags, "max-model-len"):
        return
    try:
        check_context(model, config.model.max_model_len)
    except InputError as error:
        field = error.field and "model.max_model_len"
        raise InputError(error.problem, file=error.file, field=field) from error


def weights_here(model: str) -> str | None:
    """Identity of a model's weights; None where they are not here, or not all of them.

    Raises:
        InputError: If a file cannot be read.
    """
    folder = local_folder(model)
    # Of a model of the hub there may be a tokenizer alone, or what a killed download left.
    if not any(path.suffix in _ENDINGS for path in folder.glob("*")):
        return None
    if not Path(model).is_dir():
        try:
            check_whole(str(folder))
        except InputError:
            return None
    return weights_identity(folder)
