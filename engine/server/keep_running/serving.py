"""`jostle serve`: a scoring server with settings that suit the device, kept running."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

from engine.errors import InputError
from engine.files import check_folder
from engine.keys import check_exposure, key_as_argument, read_keys
from engine.process.engine_process import EngineProcess
from engine.process.gpu_memory import visible_gpus
from engine.process.ports import check_port, check_socket
from engine.process.settings import EngineSettings, flag_value, refuse_flags
from engine.protocol.limits import Limits
from engine.server.keep_running.watch import Watcher, WatchSettings
from engine.weights.checkpoint_check import check_whole
from engine.weights.live_file import LastGood, read_last_good
from engine.weights.models import model_name, resolve_model


def _say(line: str) -> None:
    print(line, flush=True)  # whoever reads it through a pipe reads it now


def serve(
    model: str,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    weights_root: Path | None = None,
    live_file: Path | None = None,
    trust_remote_code: bool = False,
    limits: Limits | None = None,
    watch: WatchSettings | None = None,
    extra_args: Sequence[str] = (),
    say: Callable[[str], None] = _say,
) -> None:
    """Serves until it is told to stop; a server that dies or hangs is started again.

    Args:
        model: See `engine.weights.models.resolve_model`.
        host: Address to listen on; anything but loopback needs an API key.
        weights_root: Folder below which checkpoints may be loaded; None: none may.
        live_file: Where the server writes down which weights are live. If it exists, the server
            starts on what it names. None: a file that is forgotten in the end.
        extra_args: vLLM flags, passed through.
        say: Takes the lines meant for a person.

    Raises:
        InputError: If the model, the address or a flag is not acceptable, or the port is taken.
        GaveUpError: If the server failed too often.
    """
    check_flags(host, extra_args)
    socket_file = _check_address(host, port, extra_args)
    resolved = str(resolve_model(model))
    check_whole(resolved, flag_value(extra_args, "load-format"))
    name = flag_value(extra_args, "served-model-name") or model_name(model)
    _check_live_file(live_file, name, say)
    gpus = visible_gpus()  # asked once: a driver that fails later makes no CPU server of this one

    def start(last: LastGood | None) -> EngineProcess:
        engine = EngineProcess.start(
            last.model if last else resolved,
            weights_root=weights_root,
            host=host,
            port=port,
            trust_remote_code=trust_remote_code,
            long_running=True,
            limits=limits,
            live_file=record,
            adapter=last.adapter if last else None,
            name=name,
            gpus=gpus,
            extra_args=extra_args,
        )
        _tell(engine.settings, last.path if last else resolved, socket_file or engine.url, say)
        return engine

    with tempfile.TemporaryDirectory(prefix="jostle-") as folder:
        record = live_file or Path(folder) / "live.json"
        Watcher(start, record, _told_to_stop().wait, say, watch or WatchSettings()).run()


def _tell(settings: EngineSettings, weights: str, where: str, say: Callable[[str], None]) -> None:
    say(f"model {weights}, {settings.device}, {where}")
    for reason in settings.reasons:
        say(f"  {reason}")


def _check_live_file(file: Path | None, name: str, say: Callable[[str], None]) -> None:
    if file is None:
        return
    check_folder(file.parent)
    if last := read_last_good(file):
        last.check(file)
        if last.served_as not in (None, name):
            say(f"{file} names weights of {last.served_as}, which are served as {name} now")


def _check_address(host: str, port: int, extra_args: Sequence[str]) -> str | None:
    """The UNIX socket that the flags name, if they do; `InputError` if the address is taken."""
    socket_file = flag_value(extra_args, "uds")
    if socket_file:
        check_socket(Path(socket_file))
    elif port:
        check_port(port, host)
    return socket_file


def _told_to_stop() -> threading.Event:
    """Set once a signal tells the process to stop."""
    event = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        event.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    return event


def check_flags(host: str, extra_args: Sequence[str]) -> None:
    """Refuses what must not be, before anything is started.

    Raises:
        InputError: See `engine.keys`; or if a flag holds a key or contradicts our own.
    """
    names = [arg.split("=")[0].replace("_", "-") for arg in extra_args]
    if "--api-key" in names:
        raise key_as_argument()
    for name in ("--host", "--port"):
        if name in names:
            raise InputError("goes before the --, as an option of jostle serve", field=name)
    refuse_flags(extra_args)
    if flag_value(extra_args, "ssl-cert-reqs") not in (None, "0"):
        problem = "who watches the server has no certificate; let a proxy ask for them"
        raise InputError(problem, field="--ssl-cert-reqs")
    check_exposure(host, read_keys(os.environ), os.environ)
