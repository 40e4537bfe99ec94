"""`jostle serve`: a vLLM server with our scoring routes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from cli.pool import TrustRemoteCode


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
    live_file: Annotated[
        Path | None,
        typer.Option(
            help="Where to write down which weights are live. If it exists, start on those.",
            show_default="forgotten in the end",
        ),
    ] = None,
    limit: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=N",
            help="A limit: body_bytes, tasks, instances, pairs, tokens, requests, wait_seconds, "
            "drain_seconds, start_seconds, load_seconds, hang_seconds. May be repeated.",
            show_default=False,
        ),
    ] = None,
    tries: Annotated[
        int,
        typer.Option(
            min=1, help="Failures after which to give up; ten minutes of service clear them."
        ),
    ] = 3,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Serve a model: vLLM's own OpenAI routes, and ours for scoring and for loading weights.

    An engine that dies or hangs is started again with the weights that were live. Keys come from
    the environment: VLLM_API_KEY (or JOSTLE_API_KEY_FILE) for every route, JOSTLE_ADMIN_KEY (or
    JOSTLE_ADMIN_KEY_FILE) for loading weights. Exit code 70: it failed too often.
    """
    from engine.protocol.limits import parse_limits, read_limits
    from engine.server.keep_running.serving import serve as run_server
    from engine.server.keep_running.watch import WatchSettings

    limits = parse_limits(limit or (), read_limits(os.environ))
    run_server(
        model=model,
        host=host,
        port=port,
        weights_root=weights_root,
        live_file=live_file,
        limits=limits,
        watch=WatchSettings(tries=tries, start_seconds=limits.start_seconds),
        trust_remote_code=trust_remote_code,
        extra_args=tuple(vllm_flags or ()),
    )
