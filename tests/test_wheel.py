"""The sdist, and the wheel that is built of it, in an environment that has all but jostle."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.training.http_engine import http_engine

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]
PACKAGES = ("engine", "training", "cli")
QUIZ = """task,instruction,input,output
capital,Name the capital of the country.,France,Paris
capital,Name the capital of the country.,Japan,Tokyo
reverse,Write the word backwards.,house,esuoh
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both; `build` makes the wheel of the sdist."""
    folder = tmp_path_factory.mktemp("dist")
    command = (sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT)
    subprocess.run(command, check=True, capture_output=True)
    return folder


def files() -> set[str]:
    """What belongs into the wheel."""
    found = (path for room in PACKAGES for path in (ROOT / room).rglob("*") if path.is_file())
    return {str(path.relative_to(ROOT)) for path in found if "__pycache__" not in path.parts}


def test_they_hold_what_they_ought_to(built: Path) -> None:
    (wheel,), (sdist,) = built.glob("*.whl"), built.glob("*.tar.gz")
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert names == files()
    with tarfile.open(sdist) as packed:
        inside = {name.partition("/")[2] for name in packed.getnames()}
    assert files() | {"README.md", "LICENSE", "pyproject.toml", "requirements/cpu.txt"} <= inside


@pytest.fixture(scope="module")
def run(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Runs a program of an environment with the wheel, in an empty folder; what it prints."""
    folder, empty = tmp_path_factory.mktemp("environment"), tmp_path_factory.mktemp("empty")
    (wheel,) = built.glob("*.whl")
    subprocess.run((sys.executable, "-m", "venv", "--without-pip", folder), check=True)
    python = folder / "bin" / "python"
    install = ("install", "--quiet", "--no-deps", "--no-index", wheel)
    subprocess.run((sys.executable, "-m", "pip", "--python", python, *install), check=True)
    # What jostle needs, but not the checkout: what a path file names is not searched for others.
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "needed.pth").write_text(sysconfig.get_path("purelib") + "\n")

    def run(*words: str) -> str:
        done = subprocess.run(
            (folder / "bin" / words[0], *words[1:]),
            cwd=empty,
            env={"PATH": f"{folder}/bin:/usr/bin:/bin", "HOME": str(empty)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    (empty / "quiz.csv").write_text(QUIZ)
    return run


def test_the_command_works_where_nothing_else_of_the_checkout_is(run: Callable[..., str]) -> None:
    place = run("python", "-c", "import engine, training, cli; print(engine.__file__)")
    assert str(ROOT) not in place
    assert run("jostle", "--version").strip() == run("jostle", "version").split()[1]
    assert "56 tasks" in run("jostle", "pool", "validate", "bundled")
    run("jostle", "config", "init", "run.toml")
    with http_engine() as engine:
        run(
            "jostle",
            "score",
            "quiz.csv",
            "--column",
            "task=task",
            "-o",
            "s.parquet",
            "--url",
            engine.url,
        )
    run("jostle", "map", "s.parquet", "-o", "map.html")
    assert "without our plugin" not in run("jostle", "doctor", "--port", "1")


def test_the_server_finds_its_plugins(run: Callable[..., str]) -> None:
    code = """
from importlib.metadata import entry_points
from importlib.util import find_spec
for kind in ("vllm.endpoint_plugins", "vllm.general_plugins"):
    (point,) = (each for each in entry_points(group=kind) if each.name == "jostle")
    print(find_spec(point.module).name)
"""
    assert run("python", "-c", code).split() == [
        "engine.server.plugin",
        "engine.server.vllm.worker",
    ]
