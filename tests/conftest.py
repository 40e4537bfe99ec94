"""What all tests share."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

# TRL, once imported, would silence every engine that is started afterwards: it sets ERROR here.
os.environ.setdefault("VLLM_LOGGING_LEVEL", "INFO")

# Threads that spin while they wait take the cores from the servers and trainers beside them.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def _has_gpu() -> bool:
    # Not asked of torch, whose import would slow down every test run.
    if shutil.which("nvidia-smi") is None:
        return False
    return subprocess.run(["nvidia-smi"], capture_output=True, timeout=30).returncode == 0


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    _share_out(config, items)
    gpu_items = [item for item in items if item.get_closest_marker("gpu")]
    if gpu_items and not _has_gpu():
        for item in gpu_items:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


def _share_out(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Two processes, if pytest-xdist is asked for some: one for the real engines, which all tests
    of tests/integration share, and one for the files beside it, each of them whole."""
    if not config.pluginmanager.hasplugin("xdist"):
        return
    for item in items:
        shared = "integration" in item.path.parts
        group = "engines" if shared else str(item.path.relative_to(config.rootpath))
        item.add_marker(pytest.mark.xdist_group(group))
    items.sort(key=lambda item: "integration" not in item.path.parts)  # the longest first
