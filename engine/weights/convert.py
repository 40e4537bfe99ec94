"""Turns the bundled GGUF file into a plain float32 safetensors checkpoint.

Run as a process of its own (`python -m engine.weights.convert GGUF FOLDER`), so that the gigabyte
this takes is given back when it is done. transformers and torch are imported in that process only.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from engine.errors import EngineError, InputError

logger = logging.getLogger(__name__)

# Part of the cache folder's name: raise it when the same input is to become another checkpoint.
CONVERSION = 1

_TIMEOUT_SECONDS = 600.0


def convert_once(gguf: Path, sha256: str, target: Path) -> Path:
    """The checkpoint folder made from `gguf`, converted now if it is not there yet.

    The folder appears under its name only when it is complete. Of two processes that convert at
    once, one wins and both get the same folder.

    Args:
        sha256: What its content must hash to, as 64 hex digits.
        target: The folder to make.

    Raises:
        InputError: If the file is not the expected one, or there is no leave to make the folder.
        EngineError: If the conversion fails.
    """
    if (target / "config.json").is_file():
        return target
    with gguf.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
            raise InputError(f"is not the expected file: its sha256 is not {sha256}", file=gguf)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-")
    except OSError as error:
        raise InputError(
            f"models cannot be kept here ({error.strerror}); set JOSTLE_CACHE to a folder that can "
            "be written to",
            file=target.parent,
        ) from error
    with beside as scratch:
        made = Path(scratch) / "checkpoint"
        logger.info("converting %s, once; this takes about 20 seconds", gguf.name)
        _run_converter(gguf, made)
        try:
            made.rename(target)
        except OSError:
            # Renaming onto a folder that is not empty fails: another process was faster.
            if not (target / "config.json").is_file():
                raise
    return target


def _run_converter(gguf: Path, folder: Path) -> None:
    command = [sys.executable, "-m", "engine.weights.convert", str(gguf), str(folder)]
    # The child finds this package also where it is not installed, and asks no hub for anything.
    here = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1"}
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise EngineError(f"converting {gguf} took longer than {_TIMEOUT_SECONDS:.0f} s") from error
    if done.returncode != 0:
        raise EngineError(f"converting {gguf} failed:\n{done.stderr.strip()[-2000:]}")


def convert(gguf: Path, folder: Path) -> None:
    """Writes the checkpoint: weights in float32, config, generation config and tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.float32
    )
    # The tensors are plain float32 by now, but transformers still takes the model for a quantized
    # one, and refuses to save those.
    model.hf_quantizer = None
    del model.config.quantization_config
    # A name from inside the GGUF file that later readers would take for a path.
    del model.config._model_name_or_path
    _check_tied(model)
    model.save_pretrained(folder)
    tokenizer = _tokenizer(gguf, model.config.max_position_embeddings)
    assert tokenizer.eos_token_id == model.generation_config.eos_token_id
    tokenizer.save_pretrained(folder)


def _check_tied(model: Any) -> None:
    embedding, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    if model.config.tie_word_embeddings != (embedding is head):
        raise EngineError("the config and the weights disagree on whether the embeddings are tied")


def _tokenizer(gguf: Path, max_length: int) -> Any:
    from tokenizers import pre_tokenizers
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(
        gguf.parent, gguf_file=gguf.name, model_max_length=max_length
    )
    # SmolLM splits off every digit before anything else (`tokenizer.ggml.pre = smollm`), which
    # transformers' GGUF loader does not know: blanks before digits would be tokenized differently.
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    if not tokenizer.chat_template:
        raise EngineError(f"{gguf} holds no chat template")
    return tokenizer


def main() -> None:
    """Entry point of the child process."""
    gguf, folder = Path(sys.argv[1]), Path(sys.argv[2])
    try:
        convert(gguf, folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


if __name__ == "__main__":
    main()
