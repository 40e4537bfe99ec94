"""No process outlives the one that started it, even if that one is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from engine.process.lifetime import work_seconds

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="the kernel call is Linux's"
)

CHILD = """
import os, signal, sys, time
from engine.process.lifetime import die_with
signal.signal(signal.SIGTERM, lambda *_: (print("told", flush=True), sys.exit()))
die_with(os.getppid(), *map(int, sys.argv[1:]))
print("ready", flush=True)
time.sleep(3600)
"""

PARENT = """
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", *sys.argv[1:]])
time.sleep(3600)
"""


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


@contextmanager
def family(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A parent whose child writes to the parent's output: it ends when both are gone."""
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, CHILD, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
        start_new_session=True,
    )
    try:
        yield parent
    finally:
        os.killpg(parent.pid, signal.SIGKILL)
        parent.communicate()


@pytest.mark.parametrize(
    ("arguments", "last_words"), [([], ""), ([str(int(signal.SIGTERM))], "told\n")]
)
def test_a_child_ends_when_its_parent_is_killed(arguments: list[str], last_words: str) -> None:
    with family(*arguments) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "ready\n"
        os.kill(parent.pid, signal.SIGKILL)
        # The pipe ends only when its last holder, the child, is gone; it would sleep for an hour.
        assert parent.stdout.read() == last_words


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_child_whose_parent_is_gone_already_ends_at_once(number: signal.Signals) -> None:
    # No process has a child with its own id, so this parent "is gone".
    code = (
        "import os; from engine.process.lifetime import work_seconds, die_with; "
        f"die_with(os.getpid(), {int(number)}); import time; time.sleep(3600)"
    )
    ended = subprocess.run([sys.executable, "-c", code], env=environment(), check=False)
    assert ended.returncode == -number


FROM_A_THREAD = """
import subprocess, sys, threading
def start():
    global child
    child = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "ready\\n"
starter = threading.Thread(target=start)
starter.start()
starter.join()
try:
    print("ended", child.wait(timeout=0.5))
except subprocess.TimeoutExpired:
    print("lives")
"""


@pytest.mark.timeout(20)
def test_a_child_started_from_a_thread_outlives_the_thread_but_not_the_process() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", FROM_A_THREAD, CHILD],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    # Its end is the pipe's too, which the child has not inherited; the child holds stderr.
    assert ended.stdout == "lives\n"


def test_the_cpu_time_of_a_process_and_of_those_below_it() -> None:
    before = work_seconds(os.getpid())
    while work_seconds(os.getpid()) - before < 0.05:
        sum(range(10_000))
    spin = "import sys, time\nwhile time.process_time() < 0.2: pass\nprint(), sys.stdout.flush()\n"
    child = subprocess.Popen(
        [sys.executable, "-c", spin + "time.sleep(3600)"], stdout=subprocess.PIPE
    )
    assert child.stdout is not None
    with child:
        child.stdout.readline()
        own = work_seconds(os.getpid())
        assert work_seconds(os.getpid(), children=True) >= own + 0.15
        child.kill()
    assert work_seconds(child.pid) == 0


@pytest.mark.skipif(
    not Path("/proc/self/schedstat").exists(), reason="this kernel does not count what waits"
)
def test_waiting_for_a_core_is_work() -> None:
    """Of processes that spin on one core each has worked for about as long as all together."""
    core = min(os.sched_getaffinity(0))
    spin = f"import os\nos.sched_setaffinity(0, [{core}])\nprint(flush=True)\nwhile True: pass"
    children = [
        subprocess.Popen([sys.executable, "-c", spin], stdout=subprocess.PIPE) for _ in range(4)
    ]
    try:
        for child in children:
            assert child.stdout is not None
            child.stdout.readline()
        before, started = work_seconds(children[0].pid), time.monotonic()
        time.sleep(1.0)
        worked, passed = work_seconds(children[0].pid) - before, time.monotonic() - started
    finally:
        for child in children:
            child.kill()
            child.communicate()
    assert worked > 0.6 * passed, "a quarter of that is CPU time"
