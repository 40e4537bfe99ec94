"""Headless Chromium, driven over its DevTools protocol with `websockets` alone."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from websockets.sync.client import connect

CHROMIUM = shutil.which("chromium")

WAIT_S = 30.0

_KEYS = {"Tab": 9, "Enter": 13, "Escape": 27, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39}


class Browser:
    """A browser with one page; a context manager.

    Attributes:
        problems: Errors of the console, exceptions, and requests for anything but the page itself.
    """

    def __init__(self) -> None:
        self.problems: list[str] = []
        self._home = tempfile.TemporaryDirectory()
        self._number = 0
        self._url = ""
        self._started = False

    def __enter__(self) -> Self:
        assert CHROMIUM
        folder = Path(self._home.name)
        command = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"]
        command += ["--disable-dev-shm-usage", "--disable-background-networking"]
        command += ["--remote-debugging-port=0", f"--user-data-dir={folder}", "about:blank"]
        self._process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        told = folder / "DevToolsActivePort"
        self._until(lambda: told.is_file() and len(told.read_text().split()) == 2)
        port, path = told.read_text().split()
        self._open = ExitStack()
        socket = connect(f"ws://127.0.0.1:{port}{path}", max_size=None)
        self._socket = self._open.enter_context(socket)
        self._session: str | None = None
        targets = self.send("Target.getTargets")["targetInfos"]
        page = next(each["targetId"] for each in targets if each["type"] == "page")
        attached = self.send("Target.attachToTarget", targetId=page, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")
        return self

    def __exit__(self, *_exc: object) -> None:
        self._open.close()
        self._process.terminate()
        self._process.wait()
        # Its children may still be writing there.
        shutil.rmtree(self._home.name, ignore_errors=True)

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """The answer to a command; events that come meanwhile are looked at."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        self._socket.send(json.dumps(message))
        while True:
            told = json.loads(self._socket.recv(timeout=WAIT_S))
            if told.get("id") == self._number:
                assert "error" not in told, told
                result: dict[str, Any] = told["result"]
                return result
            self._look_at(told.get("method", ""), told.get("params", {}))

    def _look_at(self, event: str, params: dict[str, Any]) -> None:
        if event == "Runtime.exceptionThrown":
            self.problems.append(json.dumps(params["exceptionDetails"])[:1500])
        elif event == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning"):
            self.problems.append(str([arg.get("value") for arg in params["args"]]))
        elif event == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.problems.append(params["entry"]["text"])
        elif event == "Network.requestWillBeSent":
            url = params["request"]["url"]
            if url.split("#")[0] != self._url and not url.startswith(("data:", "blob:")):
                self.problems.append(f"asked for {url}")

    def open(self, url: str) -> float:
        """Go to a page of ours and wait until it is ready; seconds that took."""
        self._url = url
        started = time.monotonic()
        self.send("Page.navigate", url=url)
        self._until(lambda: self.run("document.documentElement?.dataset.ready === 'yes'"))
        return time.monotonic() - started

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression; promises are waited for."""
        answer = self.send(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def until(self, script: str) -> None:
        """Wait until an expression is true."""
        self._until(lambda: self.run(f"!!({script})"))

    def _until(self, condition: Callable[[], Any]) -> None:
        end = time.monotonic() + WAIT_S
        while not condition():
            assert time.monotonic() < end, "waited in vain"
            time.sleep(0.02)

    def mouse(self, x: float, y: float, *, click: bool = False) -> None:
        """Move there, in pixels of the window, and click."""
        self.send("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        for event in ("mousePressed", "mouseReleased") if click else ():
            self.send("Input.dispatchMouseEvent", type=event, x=x, y=y, button="left", clickCount=1)

    def press(self, key: str) -> None:
        """Press and let go of a key that has a name."""
        code = {"key": key, "code": key, "windowsVirtualKeyCode": _KEYS[key]}
        text = {"text": "\r"} if key == "Enter" else {}
        self.send("Input.dispatchKeyEvent", type="keyDown", **code, **text)
        self.send("Input.dispatchKeyEvent", type="keyUp", **code)

    def write(self, text: str) -> None:
        """Type into what has the focus."""
        self.send("Input.insertText", text=text)

    def media(self, *, dark: bool = False, printed: bool = False) -> None:
        """What the page is shown on."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", media="print" if printed else "", features=[scheme])

    def size(self, width: int, height: int, *, phone: bool = False) -> None:
        """Of the window."""
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=phone,
        )

    def picture(self, path: Path) -> None:
        """The whole page as PNG."""
        shot = self.send("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))

    def pdf(self, path: Path) -> None:
        """The page as it is printed."""
        path.write_bytes(base64.b64decode(self.send("Page.printToPDF")["data"]))
