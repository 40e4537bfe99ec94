"""Plants each fault by itself, runs the tests that must notice, and says whether they did.

python -m tests.planted_faults [PART OF A MODULE'S NAME]

A test that no fault breaks shows nothing. Exit code 1 if one passes unnoticed.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from tempfile import TemporaryFile

import pytest

from tests.planted_faults.faults import FAULTS, Fault
from tests.planted_faults.planting import plant

HEAVY = ("vllm.v1.engine.async_llm", "vllm.entrypoints.openai.api_server", "httpx", "hypothesis")
"""Imported once, before the processes that plant faults are forked; nothing of ours is."""

SEEN_TO_FAIL = pytest.ExitCode.TESTS_FAILED


def try_fault(fault: Fault) -> tuple[bool, str, float]:
    """Whether it is noticed, by which test (or what pytest said instead), and the seconds taken."""
    started = time.monotonic()
    with TemporaryFile() as log:
        child = os.fork()
        if not child:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
            os._exit(_run(fault))
        _, status = os.waitpid(child, 0)
        log.seek(0)
        said = log.read().decode(errors="replace")
    noticed = os.waitstatus_to_exitcode(status) == SEEN_TO_FAIL
    failed = re.search(r"^FAILED (?:\S*::)?(\w+)", said, re.MULTILINE)
    told = failed[1] if noticed and failed else "\n".join(said.splitlines()[-20:])
    return noticed, told, time.monotonic() - started


def _run(fault: Fault) -> int:
    os.chdir(Path(__file__).parents[2])
    plant(fault)
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # loading them takes longer than the tests
    plugins = ["-p", "pytest_timeout", "-p", "no:cacheprovider"]
    return int(pytest.main(["-x", "-q", "--timeout=120", *plugins, fault.tests]))


def _preload() -> None:
    for name in HEAVY:
        __import__(name)
    ours = [name for name in sys.modules if name.split(".")[0] in ("engine", "training", "cli")]
    assert not ours, "would be kept from being planted in"


def main() -> int:
    """The exit code."""
    wanted = [fault for fault in FAULTS if not sys.argv[1:] or sys.argv[1] in fault.module]
    started = time.monotonic()
    unnoticed = 0
    context = multiprocessing.get_context("fork")
    _preload()
    with ProcessPoolExecutor(os.cpu_count(), mp_context=context) as pool:
        for fault, (noticed, told, seconds) in zip(
            wanted, pool.map(try_fault, wanted), strict=True
        ):
            unnoticed += not noticed
            print(f"{'noticed' if noticed else 'PASSED'}  {seconds:4.1f} s  {fault.module}:")
            print(f"    {fault.means}: {told}", flush=True)
    print(
        f"{len(wanted)} faults planted, {len(wanted) - unnoticed} noticed, "
        f"{time.monotonic() - started:.0f} s"
    )
    return int(unnoticed > 0)


if __name__ == "__main__":
    sys.exit(main())
