"""No process of ours outlives the one that started it."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # from <linux/prctl.h>


def die_with(parent: int, signal_number: int = signal.SIGKILL) -> None:
    """Asks the kernel to send this process a signal when its parent ends, however it ends.

    Args:
        parent: Process id of the parent. If it is gone already, this process ends at once.
        signal_number: The signal. Linux only; elsewhere nothing happens.
    """
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal_number), 0, 0, 0)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal_number)
