"""Which GPUs there are, and which of them may be used, as the driver and CUDA have it."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.process.gpu_memory import DriverError, installed_gpus, visible_gpus

SAID = (
    "GPU-a1b2, 23028, 3, 8.6, NVIDIA A10G",
    "GPU-c3d4, 81559, 4, 9.0, NVIDIA H100",
    "GPU-e5, [N/A], [N/A], [N/A], GB10",
)


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program that stands for `nvidia-smi`."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\n" + "".join(f"echo '{line}'\n" for line in SAID))
    program.chmod(0o755)
    return program


@pytest.mark.usefixtures("driver")
def test_what_the_driver_says() -> None:
    assert [each.name for each in visible_gpus()] == ["NVIDIA A10G", "NVIDIA H100", "GB10"]
    assert visible_gpus()[0].total == 23028 * 2**20
    assert visible_gpus()[2].total is None, "its memory is the machine's"
    assert [each.capability for each in visible_gpus()] == [8.6, 9.0, None]


@pytest.mark.usefixtures("driver")
@pytest.mark.parametrize(
    ("chosen", "numbers"),
    [
        ("1", [1]),
        ("2, 0", [2, 0]),
        ("", []),
        ("-1", []),
        ("0,-1,1", [0]),
        ("7,0", []),
        ("GPU-c3,0", [1, 0]),
        ("GPU-x", []),
        ("MIG-4711", [0, 1, 2]),
    ],
)
def test_gpus_are_those_that_cuda_sees(
    monkeypatch: pytest.MonkeyPatch, chosen: str, numbers: list[int]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
    assert list(visible_gpus()) == [installed_gpus()[number] for number in numbers]


def test_a_driver_that_knows_no_compute_capability(driver: Path) -> None:
    said = "echo 'GPU-1, 15360, 3, GPU-1, Tesla T4'"
    driver.write_text(f"#!/bin/sh\ncase $1 in *compute_cap*) exit 2;; esac\n{said}\n")
    (found,) = visible_gpus()
    assert (found.name, found.capability) == ("Tesla T4", None)


def test_no_driver_and_one_that_fails(driver: Path) -> None:
    driver.write_text("#!/bin/sh\necho 'it has lost the GPU'; exit 9\n")
    with pytest.raises(DriverError, match="it has lost the GPU"):
        installed_gpus()
    assert visible_gpus() == ()
    driver.unlink()
    assert installed_gpus() == ()
