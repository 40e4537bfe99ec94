"""No process of ours outlives the one that started it; and whether one is at work."""

from __future__ import annotations

import os
import signal
import threading
import time
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


def cpu_seconds(pid: int, *, children: bool = False) -> float:
    """CPU time a process has used so far, and that of its running descendants if asked for.

    0 where there is no such process, or no /proc.
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

    return sum(used for number, used in ticks.items() if below(number)) / os.sysconf("SC_CLK_TCK")
