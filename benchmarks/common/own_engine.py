"""A vLLM engine in this process, for benchmarks that ask it as the server does."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def own_engine(folder: str, precision: str, context: int) -> Iterator[Any]:
    """An engine client, as `engine.server.vllm.vllm_backend.VllmBackend` takes it.

    Args:
        precision: A data type.
        context: Longest sequence, in tokens.
    """
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.v1.engine.async_llm import AsyncLLM

    from engine.process.settings import choose_settings, flag_value

    settings = choose_settings()
    os.environ.update(settings.environment | {"VLLM_PLUGINS": ""})
    block = flag_value(settings.flags, "block-size")
    client = AsyncLLM.from_engine_args(
        AsyncEngineArgs(
            model=folder,
            dtype=precision,  # type: ignore[arg-type]
            enforce_eager=True,
            max_model_len=context,
            block_size=int(block) if block else None,
            max_num_seqs=64,
        )
    )
    try:
        yield client
    finally:
        client.shutdown()
