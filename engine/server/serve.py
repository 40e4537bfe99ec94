"""`jostle serve`: a scoring server with settings that suit the device, in the foreground."""

from __future__ import annotations

import ipaddress
import os
import signal
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

from engine.errors import EngineError, InputError
from engine.models import resolve_model
from engine.process import EngineProcess

API_KEY_VARIABLE = "VLLM_API_KEY"


def serve(
    model: str,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    weights_root: Path | None = None,
    trust_remote_code: bool = False,
    long_running: bool = True,
    extra_args: Sequence[str] = (),
    say: Callable[[str], None] = print,
) -> None:
    """Serves until it is told to stop.

    Args:
        model: `smollm2-135m`, a folder or a hub id.
        host: Address to listen on; anything but loopback needs an API key.
        port: Port to listen on.
        weights_root: Folder below which checkpoints may be loaded; None: none may.
        trust_remote_code: Whether code that comes with the model may run.
        long_running: Whether compiling the model pays.
        extra_args: vLLM flags, passed through.
        say: Takes the lines meant for a person.

    Raises:
        InputError: If the model or the address is not acceptable.
        EngineError: If the server ends without having been told to.
    """
    _check_address(host, extra_args)
    resolved = resolve_model(model)
    told_to_stop = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        told_to_stop.set()

    engine = EngineProcess.start(
        str(resolved),
        weights_root=weights_root,
        host=host,
        port=port,
        trust_remote_code=trust_remote_code,
        long_running=long_running,
        extra_args=extra_args,
    )
    with engine:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop)
        say(f"model {resolved}, device {engine.settings.device}, {engine.url}")
        for reason in engine.settings.reasons:
            say(f"  {reason}")
        while engine.running() and not told_to_stop.wait(0.5):
            pass
        if not told_to_stop.is_set():
            raise EngineError(f"the engine ended with code {engine.wait()}")


def _check_address(host: str, extra_args: Sequence[str]) -> None:
    """Nobody serves a model to a network by accident, or without a key."""
    has_key = bool(os.environ.get(API_KEY_VARIABLE))
    if any(arg.split("=")[0].replace("_", "-") == "--api-key" for arg in extra_args):
        raise InputError(
            f"shows up in the process list; set the environment variable {API_KEY_VARIABLE}",
            field="--api-key",
        )
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback and not has_key:
        raise InputError(
            f"listening on {host} needs an API key in the environment variable {API_KEY_VARIABLE}",
            field="--host",
        )
