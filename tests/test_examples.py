"""Examples: a package with parts of one's own, run as its reader would; containers, linted."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]

from engine.keys import ADMIN_KEY_FILE_VARIABLE, API_KEY_FILE_VARIABLE

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_a_package_of_one_s_own_is_found(tmp_path: Path) -> None:
    package, target = ROOT / "examples" / "own_parts", tmp_path / "installed"
    python, quiet = (sys.executable, "-m"), ("-q", "--no-deps", "--no-build-isolation")
    environment = os.environ | {"PYTHONPATH": f"{target}:{ROOT}"}
    for words in (
        ("pip", "install", *quiet, "--no-index", "--target", target, package),
        ("pytest", "-q", "-p", "no:cacheprovider", "--rootdir", package, package / "tests"),
    ):
        done = subprocess.run(
            [*python, *map(str, words)],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    assert "7 passed" in done.stdout


DOCKER = ROOT / "examples" / "docker"


def test_the_container_file_is_linted_and_copies_what_its_context_holds() -> None:
    file = DOCKER / "Dockerfile"
    linter = Path(sys.executable).with_name("hadolint")
    done = subprocess.run((linter, file), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    kept = re.findall(r"^!(\S+)", (DOCKER / "Dockerfile.dockerignore").read_text(), re.MULTILINE)
    assert {"pyproject.toml", "requirements", "engine", "training", "cli"} <= set(kept)
    assert all((ROOT / name).exists() for name in kept)
    for name in re.findall(r"/requirements/([\w.$-]+\.txt)", file.read_text()):
        for device in ("cpu", "cuda"):
            assert (ROOT / "requirements" / name.replace("$DEVICE", device)).is_file()


def test_containers_are_built_of_it_and_open_nothing_without_a_key() -> None:
    composed = yaml.safe_load((DOCKER / "compose.yaml").read_text())
    for device, service in composed["services"].items():
        assert service["build"]["args"] == {"DEVICE": device}
        assert DOCKER / service["build"]["context"] / service["build"]["dockerfile"] == (
            DOCKER / "../.." / "examples/docker/Dockerfile"
        )
        assert service["environment"].keys() == {API_KEY_FILE_VARIABLE, ADMIN_KEY_FILE_VARIABLE}
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
