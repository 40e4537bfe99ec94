"""The weights that lie in a folder, told by content; and the tokenizer that a server goes by.

Cheap for any size: of large weight files the headers and sampled bytes are read.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from engine.errors import InputError
from engine.protocol.served_model import ServedModel

_WEIGHT_FILES = ("*.safetensors", "*.bin", "*.pt", "*.pth", "*.gguf")
_STEP, _BLOCK = 1 << 20, 1 << 12
_WHOLE = 1 << 26
# Fields of config.json that say who wrote it, and nothing of the model.
_NO_MODEL = ("_name_or_path", "transformers_version", "torch_dtype", "dtype")


def load_tokenizer(
    served: ServedModel, model: str | None = None, *, trust_remote_code: bool = False
) -> Any:
    """The tokenizer that a server lays prompts out with.

    Args:
        model: Where to take it from, see `engine.weights.models.resolve_model`; None: where the
            server does.
        trust_remote_code: Whether code that comes with the model may run.

    Raises:
        InputError: If it is not there, or is another one than the server's.
    """
    from engine.weights.models import resolve_model

    name = model or served.tokenizer_model
    try:
        location = str(resolve_model(name))
    except InputError as error:
        if model is not None:
            raise
        raise InputError(
            f"the engine serves {served.model}, whose tokenizer is not here ({error.problem}); "
            "name a folder or hub id that holds it",
            record=name,
            field="--model",
        ) from error
    tokenizer = open_tokenizer(location, "--model", trust_remote_code=trust_remote_code)
    served.check_tokenizer(tokenizer, name)
    return tokenizer


def open_tokenizer(location: str, field: str, *, trust_remote_code: bool) -> Any:
    """The tokenizer of a folder.

    Args:
        field: What named the model, for messages.
        trust_remote_code: Whether code that comes with the model may run.

    Raises:
        InputError: If it cannot be loaded.
    """
    from transformers import AutoTokenizer

    from engine.prompts.faults import described

    try:
        return AutoTokenizer.from_pretrained(location, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, LookupError, TypeError, ImportError) as error:
        problem = f"its tokenizer cannot be loaded: {described(error)}"
        raise InputError(problem, file=location, field=field) from error


def weights_identity(folder: Path) -> str | None:
    """Digest of a model's weight files and its config.json, wherever the folder lies.

    Of a file over 64 MiB: its name, size and first MiB (of a safetensors file most of the header),
    and 4 KiB of every further MiB. A change to a few rows of one tensor may escape it, a training
    does not.

    Returns:
        64 hex digits; None if there is no such folder, nor a file of weights of this name.

    Raises:
        InputError: If a file cannot be read.
    """
    if not folder.exists():
        return None
    digest, config = hashlib.sha256(), folder / "config.json"
    try:
        if config.is_file():
            fields = json.loads(config.read_bytes()).items()
            model = {key: value for key, value in fields if key not in _NO_MODEL}
            digest.update(json.dumps(model, sort_keys=True).encode())
        paths = {path for pattern in _WEIGHT_FILES for path in folder.glob(pattern)}
        if folder.is_file():
            paths = {folder}
        for path in sorted(paths):
            size = path.stat().st_size
            digest.update(f"\n{path.name} {size}\n".encode())
            with path.open("rb") as stream:
                digest.update(stream.read(_WHOLE if size <= _WHOLE else _STEP))
                for start in range(_STEP, size if size > _WHOLE else 0, _STEP):
                    stream.seek(start)
                    digest.update(stream.read(_BLOCK))
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(f"cannot be read: {error}", file=folder) from error
    return digest.hexdigest()
