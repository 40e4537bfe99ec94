"""The parent's side of the trainer, with stand-ins for the child."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from engine.errors import TrainingError
from engine.protocol.completions import TokenPair
from tests.engine.process.test_engine_process import wait_until_gone
from training.config.run_config import TrainConfig
from training.trainer import child_process
from training.trainer.trainer_process import TrainJob, TrainProgress, WaitingTrainer, run_trainer


def make_job(folder: Path, *launcher: str) -> TrainJob:
    return TrainJob(
        model=str(folder),
        config=TrainConfig(launcher=launcher),
        rows=folder / "rows.parquet",
        probes=(TokenPair(prompt_token_ids=(1,), completion_token_ids=(2,)),),
        attempt=folder / "attempt-0",
        output=folder / "output",
        progress=folder / "progress.jsonl",
        result=folder / "result.json",
    )


def run_script(folder: Path, script: str) -> list[TrainProgress]:
    """Run a shell script in the child's place; the launcher makes that possible."""
    job = make_job(folder, "sh", "-c", script)
    seen: list[TrainProgress] = []
    run_trainer(job, job_file=folder / "job.json", log_file=folder / "log", on_progress=seen.append)
    return seen


def test_the_last_line_of_the_log_is_told(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"exited with code 3: no such thing \(log: "):
        run_script(tmp_path, "echo starting; echo no such thing >&2; echo; exit 3")


@pytest.mark.parametrize(
    ("launcher", "end", "told"),
    [
        ("torch.distributed.run", "kill -9 $BASHPID", "no such thing; .* by SIGKILL, perhaps"),
        ("accelerate.commands.launch", "exit 1", "no such thing"),
    ],
)
def test_what_a_launcher_says_of_a_failure_hides_nothing(
    tmp_path: Path, launcher: str, end: str, told: str
) -> None:
    flag = "--no-python" if launcher.startswith("torch") else "--no_python"
    script = f"echo starting; echo no such thing >&2; {end}"
    job = make_job(tmp_path, sys.executable, "-m", launcher, flag, "bash", "-c", script)
    job_file, log = tmp_path / "job", tmp_path / "log"
    with pytest.raises(TrainingError, match=rf"exited with code 1: {told}"):
        run_trainer(job, job_file=job_file, log_file=log, on_progress=lambda _: None)


def test_a_command_that_the_trainer_ran_itself_is_its_own_fault(tmp_path: Path) -> None:
    said = "Traceback (most recent call last):\\n  x\\nsubprocess.CalledProcessError: Command gcc"
    with pytest.raises(TrainingError, match=r"code 1: subprocess.CalledProcessError: Command gcc"):
        run_script(tmp_path, f"printf 'warned\\n{said}\\n'; exit 1")


def test_a_kill_is_told(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"ended by SIGKILL, perhaps for want of memory"):
        run_script(tmp_path, "kill -9 $$")


def test_what_a_killed_launcher_leaves_behind_is_ended(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    with pytest.raises(TrainingError, match="ended by SIGKILL"):
        run_script(tmp_path, f"sleep 60 & echo $! > {pid}; kill -9 $$")
    wait_until_gone(int(pid.read_text()))


def test_success_without_a_result_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text("{}")  # of an earlier attempt
    with pytest.raises(TrainingError, match=r"left no result.*the file is missing"):
        run_script(tmp_path, "exit 0")


def test_a_launcher_that_does_not_exist_is_told(tmp_path: Path) -> None:
    job = make_job(tmp_path, "no-such-launcher")
    with pytest.raises(TrainingError, match="cannot start 'no-such-launcher'"):
        run_trainer(
            job, job_file=tmp_path / "job", log_file=tmp_path / "log", on_progress=lambda _: None
        )


@pytest.mark.parametrize("lives", [True, False])
def test_a_child_that_waits_gets_the_job_or_another_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lives: bool
) -> None:
    child = tmp_path / "python"
    waits = "cat > told; exit 3" if lives else "exit 1"
    waiting_or_not = f"[ $4 = - ] && {{ {waits}; }}"
    child.write_text(f"#!/bin/sh\ncd {tmp_path}\necho $4 >> started\n{waiting_or_not}\nexit 4")
    child.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(child))
    waiting = WaitingTrainer(str(tmp_path))
    if not lives:
        waiting.stop()
    with pytest.raises(TrainingError, match=f"code {3 if lives else 4}:"):
        run_trainer(
            make_job(tmp_path),
            job_file=tmp_path / "job.json",
            log_file=tmp_path / "log",
            on_progress=lambda _: None,
            waiting=waiting,
        )
    started = (tmp_path / "started").read_text().split()
    if lives:
        assert started == ["-"]
        told = json.loads((tmp_path / "told").read_text())
        assert told == [str(tmp_path / "job.json"), str(tmp_path / "log")]
    else:
        assert started[-1] == str(tmp_path / "job.json")


@pytest.mark.parametrize(
    ("visible", "last"),
    [(None, "1"), ("2,3", "3"), ("", ""), ("-1", "-1"), ("GPU-5f,GPU-a0", "GPU-a0")],
)
@pytest.mark.parametrize("launcher", [(), ("torchrun",)])
def test_without_a_launcher_one_gpu_is_seen(
    monkeypatch: pytest.MonkeyPatch, visible: str | None, last: str, launcher: tuple[str, ...]
) -> None:
    """TRL refuses to train one process on several."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr(child_process, "visible_gpus", lambda: [None, None])
    found = child_process._environment("model", launcher).get("CUDA_VISIBLE_DEVICES")
    assert found == (visible if launcher else last)


def test_progress_is_passed_on_whole_lines_only(tmp_path: Path) -> None:
    line = TrainProgress(phase="training", step=1, total=2, loss=0.5).model_dump_json()
    (tmp_path / "line").write_text(line)
    seen: list[TrainProgress] = []
    slowly = "cat line > progress.jsonl; sleep 0.3; (echo; cat line) >> progress.jsonl"
    job = make_job(tmp_path, "sh", "-c", f"cd {tmp_path}; {slowly}")
    with pytest.raises(TrainingError, match="left no result"):
        run_trainer(
            job, job_file=tmp_path / "job", log_file=tmp_path / "log", on_progress=seen.append
        )
    assert [each.step for each in seen] == [1]
