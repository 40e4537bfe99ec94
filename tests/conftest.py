"""What all tests share."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from engine.process.gpu_memory import visible_gpus
from tests.sharing import Sharing, in_order, left_to_another

# TRL, once imported, would silence every engine that is started afterwards: it sets ERROR here.
os.environ.setdefault("VLLM_LOGGING_LEVEL", "INFO")

# Threads that spin while they wait take the cores from the servers and trainers beside them.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# What a shell starts in the background ignores Ctrl-C, and so would all that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Texts of tests are short: to hand them to threads takes longer than to encode them.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):
        items.sort(key=in_order)
    if config.pluginmanager.hasplugin("_cov"):  # what is traced takes nearly twice as long
        for item in items:
            if item.get_closest_marker("slow") or item.get_closest_marker("integration"):
                item.add_marker(pytest.mark.no_cover)
    gpu_items = [item for item in items if item.get_closest_marker("gpu")]
    if gpu_items and not visible_gpus():
        for item in gpu_items:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    return left_to_another(collection_path, config) or None


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    return Sharing(config, log)
