"""A scoring server as a child process: started, waited for, and ended with all it has started."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Self

import httpx

from engine.errors import EngineError, InputError, UnavailableError
from engine.files import cannot_write
from engine.process.gpu_memory import Gpu
from engine.process.last_words import last_words
from engine.process.lifetime import work_seconds
from engine.process.settings import EngineSettings, choose_settings, flag_value
from engine.protocol.limits import LIMITS_VARIABLE, Limits, read_limits
from engine.weights.live_file import LIVE_FILE_VARIABLE
from engine.weights.models import check_context

PARENT_VARIABLE = "JOSTLE_PARENT_PID"
"""Environment variable: the process whose end ends the server."""

SERVER_VARIABLE = "JOSTLE_SERVER"
SERVER_HEADER = "X-Jostle-Server"
"""Environment variable and header of /ready: which start of a server it is that answers."""

WEIGHTS_ROOT_VARIABLE = "JOSTLE_WEIGHTS_ROOT"
"""Environment variable: the folder below which checkpoints may be loaded. Unset: none may."""

ADAPTER_VARIABLE = "JOSTLE_ADAPTER"
"""Environment variable: the published adapter to start with. Unset: none."""

_DYING_SECONDS = 5.0
_UNASKED_GROUPS = ("general", "platform", "io_processor", "stat_logger")
"""vLLM's groups of plugins that need not be named."""


class EngineProcess:
    """A running scoring server; a context manager that ends it.

    Attributes:
        url: Where it listens, without `/v1`, by TLS if its flags name a certificate; of no use
            where that is a UNIX socket.
        settings: What was chosen for this device.
    """

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        url: str,
        extra_args: Sequence[str],
        name: str,
        log_file: Path | None,
        settings: EngineSettings,
    ) -> None:
        self._process = process
        self._socket = flag_value(extra_args, "uds")
        drain = flag_value(extra_args, "shutdown-timeout") or ""
        self._stop_seconds = 20.0 + (int(drain) if drain.isdecimal() else 0)
        self._name = name
        self._log_file = log_file
        self._stopped = False
        self.url = url
        self.settings = settings

    @classmethod
    def start(
        cls,
        model: str,
        *,
        weights_root: Path | None,
        log_file: Path | None = None,
        host: str = "127.0.0.1",
        port: int | None = None,
        trust_remote_code: bool = False,
        long_running: bool = False,
        limits: Limits | None = None,
        live_file: Path | None = None,
        adapter: Path | None = None,
        name: str | None = None,
        gpus: Sequence[Gpu] | None = None,
        extra_args: Sequence[str] = (),
    ) -> Self:
        """Starts a server and returns at once; `wait_ready` waits until it answers.

        Args:
            model: Folder or hub id.
            weights_root: Folder below which checkpoints may be loaded; None: none may.
            log_file: Where its output goes, appended; None: to this process's own output.
            port: Port to listen on; None: a free one.
            trust_remote_code: Whether code that comes with the model may run.
            long_running, gpus: See `choose_settings`.
            limits: What the server takes; None: as the environment says, or the defaults.
            live_file: Where the server writes down which weights are live; None: nowhere.
            adapter: A published adapter to merge into the model before the first request.
            name: What requests call the model, wherever its weights come from; None: as `model`.
            extra_args: Further vLLM flags; they win over the chosen settings and the name.

        Raises:
            InputError: If flags ask for too long a context or for logits, or the log is refused.
        """
        if (length := flag_value(extra_args, "max-model-len")) and length.isdecimal():
            check_context(model, int(length))
        settings = choose_settings(extra_args, model=model, long_running=long_running, gpus=gpus)
        port, start = port or _free_port(), uuid.uuid4().hex
        command = [
            sys.executable,
            "-m",
            "engine.server",
            model,
            f"--host={host}",
            f"--port={port}",
            *settings.flags,
            *(["--trust-remote-code"] if trust_remote_code else []),
            *([f"--served-model-name={name}"] if name else []),
            *extra_args,
        ]
        told = {
            WEIGHTS_ROOT_VARIABLE: _absolute(weights_root),
            LIMITS_VARIABLE: limits.model_dump_json(exclude_defaults=True) if limits else None,
            LIVE_FILE_VARIABLE: _absolute(live_file),
            ADAPTER_VARIABLE: _absolute(adapter),
            SERVER_VARIABLE: start,
        }
        process = _start(command, _environment(settings, told), log_file)
        return cls(process, _url(host, port, extra_args), extra_args, start, log_file, settings)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stop()

    def wait_ready(
        self, timeout_s: float | None = None, on_wait: Callable[[float], None] | None = None
    ) -> None:
        """Returns when the server can score.

        Args:
            timeout_s: How long to wait; None: as the environment's limits say.
            on_wait: Called with the seconds waited so far: often at first, then twice a second.

        Raises:
            InputError: If another server answers in its place.
            EngineError: If the process ends or the time is over; with its last error.
        """
        if timeout_s is None:
            timeout_s = read_limits(os.environ).start_seconds
        started = time.monotonic()
        while (waited := time.monotonic() - started) < timeout_s:
            if self._process.poll() is not None:
                raise EngineError(
                    f"the engine ended with code {self._process.returncode} while starting"
                    f"{self._last_words()}"
                )
            if self.ready(5.0):
                return
            if on_wait is not None:
                on_wait(waited)
            time.sleep(min(0.05 + waited / 10, 0.5))
        raise EngineError(
            f"the engine was not ready after {timeout_s:.0f} s; {LIMITS_VARIABLE}="
            f"'{{\"start_seconds\": N}}' gives it longer{self._last_words()}"
        )

    def answers(self, timeout_s: float = 2.0) -> bool:
        """Whether the server answers at all, be it that it is not ready.

        Raises:
            InputError: If another server answers in its place.
        """
        return self._look(timeout_s) is not None

    def ready(self, timeout_s: float = 2.0) -> bool:
        """Whether the server can score now.

        Raises:
            InputError: If another server answers in its place.
        """
        return self._look(timeout_s) == httpx.codes.OK

    def work_seconds(self) -> float:
        """For how long the server process itself has worked, without the engine."""
        return work_seconds(self._process.pid)

    def _look(self, timeout_s: float) -> int | None:
        # Not by its certificate, which may be in any name: by the name that this process gave it.
        way = httpx.HTTPTransport(uds=self._socket, verify=False)
        try:
            with httpx.Client(transport=way, timeout=timeout_s) as http:
                answer = http.get(f"{self.url}/ready")
        except httpx.TransportError:
            return None
        named = answer.headers.get(SERVER_HEADER)
        # Before our routes vLLM itself may answer, that it is scaled.
        if named != self._name and (named or answer.status_code != httpx.codes.SERVICE_UNAVAILABLE):
            where = self._socket or self.url
            raise InputError(f"another server answers at {where}", field="--port")
        return answer.status_code

    def wait(self) -> int:
        """Waits until the server ends by itself; its exit code."""
        return self._process.wait()

    def running(self, timeout_s: float = 0.0) -> bool:
        """Whether it still does after so many seconds, or as soon as it does not."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout_s)
        return self._process.poll() is None

    def stop(self, timeout_s: float | None = None) -> None:
        """Ends the server and every process it has started; safe to call again.

        Args:
            timeout_s: After which it is killed; None: 20 and those of `--shutdown-timeout`.
        """
        if self._stopped:  # the group's id may belong to somebody else by now
            return
        self._stopped = True
        self._signal(signal.SIGTERM)
        try:
            self._process.wait(self._stop_seconds if timeout_s is None else timeout_s)
        except subprocess.TimeoutExpired:
            pass
        finally:
            # The group, not the process: vLLM's workers survive a server that dies the hard way.
            self._signal(signal.SIGKILL)
            self._process.wait()
            if self._socket:  # its successor could not listen there
                Path(self._socket).unlink(missing_ok=True)

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def explained(self, error: EngineError, *, log: bool = True) -> EngineError | None:
        """The error with how the server has ended; None if it has not, or was stopped.

        Args:
            log: Whether to name the log.
        """
        # A process that dies is there for a moment after its connections.
        dying_s = _DYING_SECONDS if isinstance(error, UnavailableError) else 0.0
        if self._stopped or self.running(dying_s):
            return None
        said = f"the engine ended with code {self.wait()}{self._last_words()}"
        return EngineError(f"{error}; {said if log else said.rpartition(' (log: ')[0]}")

    def _last_words(self) -> str:
        if self._log_file is None:
            return ""
        # The log may hold older starts; each begins with its command.
        said = last_words(self._log_file.read_text(errors="replace").rpartition("$ ")[2])
        return f": {said or 'it said nothing'} (log: {self._log_file})"


def _environment(settings: EngineSettings, told: Mapping[str, str | None]) -> dict[str, str]:
    """This process's own, and what the server is told; None: nothing."""
    return {
        **os.environ,
        **settings.environment,
        "VLLM_PLUGINS": _plugins(os.environ.get("VLLM_PLUGINS")),
        "VLLM_NO_USAGE_STATS": "1",
        PARENT_VARIABLE: str(os.getpid()),
        **{name: value for name, value in told.items() if value is not None},
    }


def _plugins(given: str | None) -> str:
    """VLLM_PLUGINS, which names all plugins that may be loaded, with ours among them."""
    names = _unasked_plugins() if given is None else given.split(",")
    return ",".join(dict.fromkeys([*filter(None, names), "jostle"]))


def _unasked_plugins() -> list[str]:
    """Those that vLLM loads where nobody names any: all but those that add routes."""

    def names(group: str) -> set[str]:
        return {each.name for each in entry_points(group=f"vllm.{group}_plugins")}

    unasked: set[str] = set().union(*map(names, _UNASKED_GROUPS))
    return sorted(unasked - names("endpoint"))


def _url(host: str, port: int, extra_args: Sequence[str]) -> str:
    """Where a server on this machine is reached that listens there."""
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    address = f"[{reachable}]:{port}" if ":" in reachable else f"{reachable}:{port}"
    return f"{'https' if flag_value(extra_args, 'ssl-certfile') else 'http'}://{address}"


def _absolute(path: Path | None) -> str | None:
    return None if path is None else str(path.resolve())


def _start(
    command: Sequence[str], environment: Mapping[str, str], log_file: Path | None
) -> subprocess.Popen[bytes]:
    """Starts a command in a session of its own; the log begins with the command."""
    with contextlib.ExitStack() as stack:
        output = None
        if log_file is not None:
            try:
                log_file.parent.mkdir(parents=True, exist_ok=True)
                # Unbuffered: what could not be written is not tried again when the file closes.
                output = stack.enter_context(log_file.open("ab", buffering=0))
                output.write(f"$ {shlex.join(command)}\n".encode())
            except OSError as error:
                raise cannot_write(log_file, error) from error
        return subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT if output else None,
            start_new_session=True,
        )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
