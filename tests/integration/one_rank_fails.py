"""An extension of vLLM's workers under which one of two ranks does not load what the other loads.

For `--worker-extension-cls`. The file that `JOSTLE_TEST_FAULT` names holds a rank and what it does
at the next load: `1 fails`, `0 does nothing`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from engine.server.vllm import worker as ours
from tests.integration.processes import FAULT_VARIABLE

_stock = ours._load


class OneRankFails:
    """What vLLM mixes into its workers; nothing of it is called."""


def _load(worker: Any, path: str, adapter: str | None) -> None:
    fault = Path(os.environ[FAULT_VARIABLE])
    rank = str(worker.rank or worker.parallel_config.data_parallel_index)
    which, _, what = fault.read_text().partition(" ") if fault.exists() else ("", "", "")
    if rank != which:
        _stock(worker, path, adapter)
        return
    fault.unlink()  # the next load is the one back
    if what == "fails":
        raise OSError("the disk of this rank is broken")
    assert what == "does nothing"


ours._load = _load
