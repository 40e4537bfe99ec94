"""No process of ours outlives the one that started it; and whether one is at work."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path

_LOOK_SECONDS = 0.1


def die_with(parent: int, signal_number: int = signal.SIGKILL) -> None:
    """Sends this process a signal when its parent ends, however it ends.

    Seen by who the parent is, from a thread. The kernel's own signal (PR_SET_PDEATHSIG) comes when
    the thread ends that has started this process, while the parent may live on.

    Args:
        parent: Process id of the parent. If it is gone already, this process ends at once.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOK_SECONDS)
        os.kill(os.getpid(), signal_number)

    if os.getppid() == parent:
        threading.Thread(target=watch, name="die-with-parent", daemon=True).start()
    else:
        os.kill(os.getpid(), signal_number)


def work_seconds(pid: int, *, children: bool = False) -> float:
    """For how long a process has worked so far, or would have, had others not had the cores.

    CPU time, and the time that threads which still run have waited for a core; of its running
    descendants too if asked for. 0 where there is no such process, or no /proc.
    """
    ticks: dict[int, int] = {}
    parents: dict[int, int] = {}
    entries = Path("/proc").glob("[0-9]*/stat") if children else [Path(f"/proc/{pid}/stat")]
    for entry in entries:
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        number = int(entry.parent.name)
        parents[number], ticks[number] = int(fields[1]), int(fields[11]) + int(fields[12])

    def below(number: int) -> bool:
        while number not in (pid, 0):
            number = parents.get(number, 0)
        return number == pid

    family = [number for number in ticks if below(number)]
    used = sum(ticks[number] for number in family) / os.sysconf("SC_CLK_TCK")
    return used + sum(map(_waited_seconds, family))


def _waited_seconds(pid: int) -> float:
    nanoseconds = 0
    for thread in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with suppress(FileNotFoundError, ProcessLookupError):
            nanoseconds += int(thread.read_text().split()[1])
    return nanoseconds / 1e9
