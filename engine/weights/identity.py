"""What a server serves, told by content: a digest of all that its numbers depend on.

Cheap for any size: of large weight files the headers and sampled bytes are read. The tokenizer is
told by what it does, so that a client which has loaded one can tell whether it is the same.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from engine.errors import InputError
from engine.tasks import Record

_WEIGHT_FILES = ("*.safetensors", "*.bin", "*.pt", "*.pth", "*.gguf")
_STEP, _BLOCK = 1 << 20, 1 << 12
_WHOLE = 1 << 26
# Fields of config.json that say who wrote it, and nothing of the model.
_NO_MODEL = ("_name_or_path", "transformers_version", "torch_dtype", "dtype")
_PROBE = "Ünï-code 12345 \t\n  don't  日本語 <|im_start|></s> e\u0301"


class ServedModel(Record):
    """What a server was started with.

    Attributes:
        model: Folder or hub id of the weights.
        tokenizer_model: Folder or hub id of the tokenizer.
        weights: Digest of the weight files and of config.json, see `weights_identity`.
        tokenizer: Digest of the tokenizer, see `tokenizer_identity`.
        chat_template: Digest of its chat template; null where there is none.
        max_model_len: Context, in tokens.
        dtype: Data type of the weights; quantization and data type of the cache where they differ.
    """

    model: str
    tokenizer_model: str
    weights: str
    tokenizer: str
    chat_template: str | None
    max_model_len: int
    dtype: str

    @property
    def version(self) -> str:
        """Version of the weights as long as no others have been loaded: `base-` and 12 digits."""
        content = self.model_dump_json(exclude={"model", "tokenizer_model"})
        return f"base-{_digest(content.encode())[:12]}"

    def differences(self, other: ServedModel) -> list[str]:
        """What else than the weights is another, in words; those have a version of their own."""
        found = []
        for field in ("tokenizer", "chat_template", "max_model_len", "dtype"):
            old, new = getattr(self, field), getattr(other, field)
            if old != new:
                if field in ("tokenizer", "chat_template"):
                    old, new = _short(old), _short(new)
                found.append(f"{field} {old} and {new}")
        return found

    def check_tokenizer(self, tokenizer: Any, name: str) -> None:
        """That prompts laid out with a tokenizer are those that the server makes.

        Args:
            tokenizer: A transformers tokenizer.
            name: The model that it came with.

        Raises:
            InputError: If it is another one, or has another chat template.
        """
        pairs = (
            ("tokenizer", self.tokenizer, tokenizer_identity(tokenizer)),
            ("chat template", self.chat_template, template_identity(tokenizer)),
        )
        for what, served, own in pairs:
            if served != own:
                raise InputError(
                    f"the engine serves {self.model}, whose {what} ({_short(served)}) is not that "
                    f"of {name} ({_short(own)})",
                    field="model",
                )


def load_tokenizer(
    served: ServedModel, model: str | None = None, *, trust_remote_code: bool = False
) -> Any:
    """The tokenizer that a server lays prompts out with.

    Args:
        served: What the server says.
        model: Where to take it from, see `engine.weights.models.find_model`; None: where the server does.
        trust_remote_code: Whether code that comes with the model may run.

    Raises:
        InputError: If it is not there, or is another one than the server's.
    """
    from transformers import AutoTokenizer

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
    tokenizer = AutoTokenizer.from_pretrained(location, trust_remote_code=trust_remote_code)
    served.check_tokenizer(tokenizer, name)
    return tokenizer


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


def tokenizer_identity(tokenizer: Any) -> str:
    """Digest of a transformers tokenizer, the same in every process: 64 hex digits.

    Of a fast one all of its rules, but for the padding and truncation that its user has set; of a
    slow one its class, vocabulary, added tokens, and what it makes of a text.
    """
    fast = getattr(tokenizer, "backend_tokenizer", None)
    rules: Any
    if fast is not None:
        rules = json.loads(fast.to_str())
        rules |= {"padding": None, "truncation": None}
    else:
        rules = {
            "class": type(tokenizer).__name__.removeprefix("Cached"),
            "vocabulary": tokenizer.get_vocab(),
            "probe": tokenizer.encode(_PROBE),
        }
    special = [getattr(tokenizer, name, None) for name in ("bos_token_id", "eos_token_id")]
    return _digest(json.dumps([rules, special], sort_keys=True).encode())


def template_identity(tokenizer: Any) -> str | None:
    """Digest of a tokenizer's chat template, or of all by name: 64 hex digits; None without one."""
    template = getattr(tokenizer, "chat_template", None)
    return _digest(json.dumps(template, sort_keys=True).encode()) if template else None


def _short(digest: str | None) -> str:
    return digest[:12] if digest else "none"


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
