"""The report of a run in progress, on loopback and up to date."""

from __future__ import annotations

import tempfile
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock

from engine.errors import InputError
from training.report.run_report import recorded_tasks, write_run_report
from training.run.run_folder import RunFolder
from training.run.state import read_state

_PAUSES = 10
"""How many times as long as it takes the report is left as it is, within a step."""

_RELOAD = b"<script>setTimeout(() => location.reload(), 15_000)</script>\n"
"""Makes a page follow the run; a header would ask for the address without the page's state."""


class ReportServer(ThreadingHTTPServer):
    """Answers `/` with the report; nothing else of the machine can be asked for.

    Args:
        port: 0: any that is free.

    Raises:
        InputError: If the run's pool cannot be read, or the port is taken.
    """

    daemon_threads = True

    def __init__(self, folder: RunFolder, port: int = 0) -> None:
        self._folder = folder
        self._tasks = recorded_tasks(folder)
        try:
            super().__init__(("127.0.0.1", port), _Handler)
        except OSError as error:
            raise InputError(f"cannot listen there: {error.strerror}", field="--port") from error
        self._lock = Lock()
        self._seen: tuple[int, ...] = ()
        self._next = 0.0
        self._page = b""

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.server_address[1]}/"

    def page(self) -> tuple[bytes, bool]:
        """The report, and whether the run is finished.

        It is written anew where a step has ended; of a step that goes on, only now and then, as
        that takes long for a large run.
        """
        with self._lock:
            finished = read_state(self._folder).is_done()
            records = (self._folder.state, self._folder.progress)
            seen = tuple(path.stat().st_mtime_ns if path.is_file() else 0 for path in records)
            started = time.monotonic()
            changed = self._seen[:1] != seen[:1]
            if changed or (self._seen != seen and started >= self._next):
                with tempfile.TemporaryDirectory() as scratch:
                    path = Path(scratch) / "report.html"
                    write_run_report(self._folder, self._tasks, path)
                    self._page = path.read_bytes()
                self._seen = seen
                now = time.monotonic()
                self._next = now + _PAUSES * (now - started)
            return self._page, finished


class _Handler(BaseHTTPRequestHandler):
    server: ReportServer

    def handle(self) -> None:
        with suppress(ConnectionError):  # the browser has gone away
            super().handle()

    def do_GET(self) -> None:
        # Another page must not reach us through a name of its own that leads here.
        here = self.headers.get("Host", "").rpartition(":")[0] in ("127.0.0.1", "localhost")
        if self.path != "/" or not here:
            self.send_error(404)
            return
        try:
            page, finished = self.server.page()
        except InputError as fault:
            self.send_error(500, explain=str(fault))
            return
        if not finished:
            page += _RELOAD
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(page)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(page)

    def log_message(self, format: str, *arguments: object) -> None:
        pass
