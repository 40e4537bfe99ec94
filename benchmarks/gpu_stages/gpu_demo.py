"""Stage `demo` of `benchmarks.gpu`: `jostle demo`, as a user starts it."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time

from benchmarks.gpu_stages.gpu_stage import Bench, Note
from engine.errors import EngineError


class DemoStage:
    """Starts it in a folder of its own."""

    name = "demo"
    estimate_s = 110.0
    gib = 12.0
    timed, patient = True, False

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._run = bench.out / "demo-run"
        self._process: subprocess.Popen[bytes] | None = None

    def begin(self) -> None:
        """Starts it."""
        shutil.rmtree(self._run, ignore_errors=True)
        self._started = time.perf_counter()
        few = ["--tasks", "4", "--rounds", "1", "--instances", "2", "--perturbations", "2"]
        with (self._bench.out / "demo.log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-c",
                    "import sys; from cli.main import main; sys.exit(main())",
                    "demo",
                    f"--run-dir={self._run}",
                    *(few if self._bench.tiny else []),
                ],
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def work(self, note: Note) -> None:
        """Waits for its end, and tells what it said last."""
        assert self._process is not None
        code = self._process.wait(540)
        said = (self._bench.out / "demo.log").read_text(errors="replace")
        if code != 0:
            raise EngineError(f"jostle demo ended with code {code}: {said[-2000:]}")
        note({"name": "jostle demo", "seconds": time.perf_counter() - self._started, "said": said})

    def stop(self) -> None:
        """Ends it; safe to call again."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait()
