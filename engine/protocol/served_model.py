"""What a server says it serves: a digest of each thing that its numbers depend on.

The tokenizer is told by what it does, so that a client which has loaded one can tell whether it is
the same.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from engine.errors import InputError
from engine.tasks import Record

_PROBE = "Ünï-code 12345 \t\n  don't  日本語 <|im_start|></s> e\u0301"

_GOOD_TO = {"bfloat16": 0.02, "float16": 0.002, "tf32": 0.002}
"""Largest difference of 60 real pairs' probabilities from those of float32, read on CUDA with 135M
parameters; float16 has as many bits as TF32."""


class ServedModel(Record):
    """What a server was started with.

    Attributes:
        model: Folder or hub id of the weights.
        tokenizer_model: Folder or hub id of the tokenizer.
        weights: Digest of the weight files and of config.json, see `engine.weights.identity`.
        tokenizer: Digest of the tokenizer, see `tokenizer_identity`.
        chat_template: Digest of its chat template; null where there is none.
        max_model_len: Context, in tokens.
        dtype: Data type of the weights; `tf32` where CUDA rounds float32 to it; quantization and
            data type of the cache where they differ.
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

    @property
    def exactness(self) -> str | None:
        """How far to trust a probability, in words; None where rounding tells nowhere."""
        parts = self.dtype.split(", ")
        good = max((_GOOD_TO[part] for part in parts if part in _GOOD_TO), default=None)
        return None if good is None else f"{self.dtype}: probabilities are good to about {good:g}"

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
