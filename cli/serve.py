"""`jostle serve`: a vLLM server with our scoring routes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def serve(
    model: Annotated[str, typer.Argument(help="smollm2-135m (bundled), a hub id, or a folder.")],
    vllm_flags: Annotated[
        list[str] | None,
        typer.Argument(metavar="[-- VLLM_FLAGS...]", help="Passed on to vLLM.", show_default=False),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on.")] = 8000,
    weights_root: Annotated[
        Path | None,
        typer.Option(
            help="Folder below which POST /v1/weights may load checkpoints.",
            show_default="no loading",
        ),
    ] = None,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Let code that comes with the model run.")
    ] = False,
) -> None:
    """Serve a model: vLLM's own OpenAI routes, and ours for scoring and for loading weights."""
    from engine.server.serve import serve as run_server

    run_server(
        model=model,
        host=host,
        port=port,
        weights_root=weights_root,
        trust_remote_code=trust_remote_code,
        extra_args=tuple(vllm_flags or ()),
    )
