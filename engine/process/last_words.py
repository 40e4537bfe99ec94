"""Why a process ended, in one line, found in what it has printed."""

from __future__ import annotations

import re

# vLLM's processes say who they are, and its log says when and where.
_PROCESS = r"(\([^()]*pid=\d+\) ?)?"
_LEVEL = r"((DEBUG|INFO|WARNING|ERROR|CRITICAL) [\d-]+ [\d:]+ \S+ )?"
_WHO = re.compile(f"^{_PROCESS}{_LEVEL}")
_RAISED = r"[A-Za-z_][\w.]*(Error|Exception|Interrupt)(: .*)?"
_CAUSE = re.compile(rf"{_RAISED}|Value error, .*|[\w .-]+: error: .*")
_COLOUR = re.compile(r"\x1b\[[\d;]*m")
_SECOND_HAND = ("root cause", "initialization failed", "WorkerProc failed", "validation error")


def last_words(text: str) -> str:
    """The last error that is no report of another one; else the last line; else nothing."""
    lines = [_WHO.sub("", _COLOUR.sub("", line)).strip() for line in text.splitlines()]
    causes = [line for line in lines if _CAUSE.fullmatch(line)]
    own = [line for line in causes if not any(phrase in line for phrase in _SECOND_HAND)]
    spoken = own or causes or [line for line in lines if line]
    # What pydantic puts behind an error is for programmers.
    return spoken[-1].partition(" [type=")[0].removeprefix("Value error, ") if spoken else ""
