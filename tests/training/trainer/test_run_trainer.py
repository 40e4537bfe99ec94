"""The parent's side of the trainer, with stand-ins for the child."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.errors import TrainingError
from engine.protocol.completions import TokenPair
from tests.engine.process.test_engine_process import wait_until_gone
from training.config.run_config import TrainConfig
from training.trainer.trainer_process import TrainJob, TrainProgress, run_trainer


def run_script(folder: Path, script: str) -> list[TrainProgress]:
    """Run a shell script in the child's place; the launcher makes that possible."""
    job = TrainJob(
        model=str(folder),
        config=TrainConfig(launcher=("sh", "-c", script)),
        rows=folder / "rows.parquet",
        probes=(TokenPair(prompt_token_ids=(1,), completion_token_ids=(2,)),),
        attempt=folder / "attempt-0",
        output=folder / "output",
        progress=folder / "progress.jsonl",
        result=folder / "result.json",
    )
    seen: list[TrainProgress] = []
    run_trainer(job, job_file=folder / "job.json", log_file=folder / "log", on_progress=seen.append)
    return seen


def test_the_last_line_of_the_log_is_told(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"exited with code 3: no such thing \(log: "):
        run_script(tmp_path, "echo starting; echo no such thing >&2; echo; exit 3")


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
    job = TrainJob(
        model="m",
        config=TrainConfig(launcher=("no-such-launcher",)),
        rows=tmp_path / "rows",
        probes=(TokenPair(prompt_token_ids=(1,), completion_token_ids=(2,)),),
        attempt=tmp_path / "attempt-0",
        output=tmp_path / "output",
        progress=tmp_path / "progress",
        result=tmp_path / "result",
    )
    with pytest.raises(TrainingError, match="cannot start 'no-such-launcher'"):
        run_trainer(
            job, job_file=tmp_path / "job", log_file=tmp_path / "log", on_progress=lambda _: None
        )


def test_progress_is_passed_on_whole_lines_only(tmp_path: Path) -> None:
    line = TrainProgress(phase="training", step=1, total=2, loss=0.5).model_dump_json()
    (tmp_path / "line").write_text(line)
    seen: list[TrainProgress] = []
    job = TrainJob(
        model=str(tmp_path),
        config=TrainConfig(
            launcher=(
                "sh",
                "-c",
                f"cd {tmp_path}; cat line > progress; sleep 0.3; (echo; cat line) >> progress",
            )
        ),
        rows=tmp_path / "rows",
        probes=(TokenPair(prompt_token_ids=(1,), completion_token_ids=(2,)),),
        attempt=tmp_path / "attempt-0",
        output=tmp_path / "output",
        progress=tmp_path / "progress",
        result=tmp_path / "result",
    )
    with pytest.raises(TrainingError, match="left no result"):
        run_trainer(
            job, job_file=tmp_path / "job", log_file=tmp_path / "log", on_progress=seen.append
        )
    assert [each.step for each in seen] == [1]
