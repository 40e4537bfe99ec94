"""SIGKILL of command line, engine or trainer at random moments: real processes, stand-in model."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.client import EngineClient
from engine.protocol.score_config import ScoreConfig
from tests.training.fakes import make_pool
from tests.training.run.chaos import run_with_kills
from tests.training.run.test_rounds import read_records
from tests.training.tiny import make_tokenizer
from training.run.fleet import Fleet

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1_200)]

KILLS = int(os.environ.get("JOSTLE_KILLS", "4"))  # 20 and more: minutes

CONFIG = """
rounds = 1
[model]
name = "{folder}/model"
max_model_len = 256
[pool]
path = "{folder}/pool"
held_out = "{folder}/held"
[initial]
n_tasks = 2
[score]
max_output_tokens = 8
[select]
n_tasks = 2
[train]
instances_per_task = 2
checkpoint_steps = 3
launcher = ["{python}", "-m", "tests.training.trainer.stand_in_trainer"]
[evaluate]
max_new_tokens = 4
[engine]
urls = ["http://127.0.0.1:{port}"]
"""


class Engine:
    """Keeps a stand-in engine alive on one port."""

    def __init__(self, port: int, *model: Path) -> None:
        self.port = port
        self.model = model
        self.process: subprocess.Popen[bytes] | None = None

    def ensure(self) -> dict[str, int]:
        """Starts it if it is dead; its process id by role."""
        if self.process is None or self.process.poll() is not None:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "tests.training.stand_in_engine"),
                    *(str(self.port), *map(str, self.model)),
                ]
            )
            while True:
                try:
                    socket.create_connection(("127.0.0.1", self.port), 1).close()
                    break
                except OSError:
                    time.sleep(0.05)
        return {"engine": self.process.pid}


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    engine = Engine(port, tmp_path / "model")
    yield engine
    if engine.process is not None:
        engine.process.kill()
        engine.process.wait()


def write_pool(folder: Path, n_tasks: int) -> None:
    folder.mkdir()
    for number in range(n_tasks):
        task = {
            "Definition": ["say color of"],
            "Positive Examples": [],
            "Negative Examples": [],
            "Categories": ["color"],
            "Instances": [
                {"id": f"i{name}", "input": name, "output": [answer]}
                for name, answer in (("sky", "blue"), ("grass", "green"), ("blood", "red"))
            ],
        }
        (folder / f"{folder.name}-{number:02d}.json").write_text(json.dumps(task))


def write_run(folder: Path, port: int, *, n_tasks: int, n_held_out: int) -> Path:
    """All that a run needs; its config file."""
    write_pool(folder / "pool", n_tasks)
    write_pool(folder / "held", n_held_out)
    make_tokenizer().save_pretrained(folder / "model")
    (folder / "model" / "config.json").write_text('{"model_type": "llama"}')
    config = folder / "config.toml"
    config.write_text(CONFIG.format(folder=folder, python=sys.executable, port=port))
    return config


def test_a_run_killed_at_random_moments_ends_with_the_same_records(
    tmp_path: Path, engine: Engine
) -> None:
    config = write_run(tmp_path, engine.port, n_tasks=12, n_held_out=4)
    run = [sys.executable, "-m", "cli.main", "run", str(config), "--run-dir"]
    engine.ensure()
    started = time.monotonic()
    subprocess.run([*run, str(tmp_path / "undisturbed")], check=True)
    took = time.monotonic() - started
    expected = read_records(tmp_path / "undisturbed")
    compared = 0

    def compare() -> None:
        nonlocal compared
        assert read_records(tmp_path / "run") == expected
        (tmp_path / "run").rename(tmp_path / f"done-{compared}")
        compared += 1
        reset_engine()

    def reset_engine() -> None:
        """A new run needs the base model; an engine that was started anew serves it."""
        assert engine.process is not None
        engine.process.kill()
        engine.process.wait()
        engine.ensure()

    reset_engine()
    done = run_with_kills(
        [*run, str(tmp_path / "run")],
        tmp_path / "log",
        kills=KILLS,
        longest_s=took,
        trainer_s=1.0,
        seed=0,
        others=engine.ensure,
        new_run=compare,
        before=engine.ensure,
    )
    compare()
    print(f"{dict(done)} killed, {compared} runs compared, {took:.1f} s undisturbed")
    assert done.total() == KILLS


def test_of_two_engines_one_is_killed_and_every_task_is_scored_once() -> None:
    ports = []
    for _ in range(2):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            ports.append(probe.getsockname()[1])
    engines = [Engine(port) for port in ports]
    try:
        for engine in engines:
            engine.ensure()
        clients = {
            str(port): EngineClient(f"http://127.0.0.1:{port}", patience_s=1.0) for port in ports
        }
        fleet = Fleet(clients)
        assert fleet.weights().is_base
        seen: list[str] = []
        for score in fleet.score(list(make_pool(40)), ScoreConfig()):
            seen.append(score.task_id)
            if len(seen) == 10:
                assert engines[0].process is not None
                engines[0].process.kill()
        assert sorted(seen) == sorted(task.id for task in make_pool(40))
        assert fleet.alive == [str(ports[1])]
    finally:
        for engine in engines:
            if engine.process is not None:
                engine.process.kill()
                engine.process.wait()
