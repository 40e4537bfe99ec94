"""The server of pairs as one that serves a small tokenizer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.protocol.served_model import template_identity, tokenizer_identity
from tests.engine.small_tokenizers import chat
from tests.engine.weights.served import SERVED
from tests.training.pair_files.pair_server import PairServer, pair_server

MAX_LENGTH = 64


@contextmanager
def harness_server(folder: Path) -> Iterator[PairServer]:
    """A running server; the tokenizer lies in the folder."""
    tokenizer = chat()
    tokenizer.save_pretrained(folder / "tokenizer")
    (folder / "tokenizer/config.json").write_text('{"model_type": "gpt2"}')
    with pair_server() as running:
        running.served = SERVED.model_copy(
            update={
                "tokenizer_model": str(folder / "tokenizer"),
                "tokenizer": tokenizer_identity(tokenizer),
                "chat_template": template_identity(tokenizer),
                "max_model_len": MAX_LENGTH,
            }
        )
        yield running


def asked(server: PairServer) -> list[tuple[list[int], list[int]]]:
    """All pairs that it was asked, in order."""
    return [
        (pair["prompt_token_ids"], pair["completion_token_ids"])
        for body in server.bodies
        for pair in body["pairs"]
    ]
