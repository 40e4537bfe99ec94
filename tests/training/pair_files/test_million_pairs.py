"""A file of a million short pairs: memory stays flat, and kills change nothing.

python -m pytest tests/training/pair_files/test_million_pairs.py -m long -s
"""

from __future__ import annotations

import hashlib
import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from training.pair_files.scored_pairs import PairJournal

N_ROWS = 1_000_000
N_KILLS = 10
MOST_MIB = 500
PAIR_BYTES = 35
"""Of a pair in the journal, about."""


@pytest.fixture
def url() -> Iterator[str]:
    """A server of pairs in a process of its own."""
    command = [sys.executable, "-m", "tests.training.pair_files.pair_server"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    yield process.stdout.readline().strip()
    process.terminate()
    process.wait()


def start(given: Path, out: Path, url: str) -> psutil.Popen:
    command = [sys.executable, "-m", "cli.main", "logprobs", given, "-o", out, "--url", url]
    return psutil.Popen([str(word) for word in command], stderr=subprocess.DEVNULL)


def peak_mib(process: psutil.Popen) -> float:
    """The most memory that a process takes until it ends."""
    peak = 0.0
    while process.poll() is None:
        peak = max(peak, process.memory_info().rss / 2**20)
        time.sleep(0.1)
    return peak


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_a_million_pairs(tmp_path: Path, url: str) -> None:
    given = tmp_path / "in.jsonl"
    with given.open("w") as stream:
        for n in range(N_ROWS):
            row = {"id": n, "prompt": f"What is {n % 9973}?", "completion": f" It is {n}."}
            stream.write(json.dumps(row) + "\n")
    undisturbed = tmp_path / "undisturbed.jsonl"
    started = time.monotonic()
    process = start(given, undisturbed, url)
    whole_mib = peak_mib(process)
    seconds = time.monotonic() - started
    assert process.returncode == 0

    out, peaks = tmp_path / "out.jsonl", []
    journal = PairJournal(tmp_path / "out.jsonl.journal.jsonl")
    kept = []
    for growth in random.Random(0).choices(range(N_ROWS // 10), k=N_KILLS):
        process = start(given, out, url)
        mib, n_pairs = killed_after(process, growth, journal)
        peaks.append(mib)
        kept.append(n_pairs)
    process = start(given, out, url)
    peaks.append(peak_mib(process))
    assert process.returncode == 0
    print(f"\n{N_ROWS:,} pairs in {seconds:.0f} s, {whole_mib:.0f} MiB at most")
    print(f"killed with {kept} pairs in the journal, {max(peaks):.0f} MiB at most")
    assert kept == sorted(set(kept))
    assert digest(out) == digest(undisturbed)
    assert max(whole_mib, *peaks) < MOST_MIB


def killed_after(process: psutil.Popen, growth: int, journal: PairJournal) -> tuple[float, int]:
    """Kills it when its journal has grown by so many pairs; its memory, and all pairs there."""
    size = journal.path.stat().st_size if journal.path.exists() else 0
    peak = 0.0
    while not journal.path.exists() or journal.path.stat().st_size < size + growth * PAIR_BYTES:
        assert process.poll() is None
        peak = max(peak, process.memory_info().rss / 2**20)
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    numbers = [number for batch in journal.records() for number in batch.numbers()]
    assert len(set(numbers)) == len(numbers)
    return peak, len(numbers)


def digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
