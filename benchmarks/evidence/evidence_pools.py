"""The pools on which evidence is gathered, and where what is known of them lies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmarks.common.pairs import REAL_TASKS
from benchmarks.common.stored_pairs import StoredTask, load
from benchmarks.reference_pairs import SECOND
from benchmarks.reference_pairs import STORED as REAL_PAIRS
from engine.pools.bundled import held_out_pool, training_pool
from engine.pools.niv2 import load_niv2
from engine.tasks import Pool
from training.run.run_pools import split

_DATA = Path(__file__).parent.parent / "data"
NAMES = ("bundled", "niv2")


@dataclass(frozen=True)
class EvidencePool:
    """Tasks to train on, tasks to evaluate on.

    Attributes:
        name: One of `NAMES`.
        pairs: Stored pairs of the pool's tasks under the base model.
    """

    name: str
    pool: Pool
    held_out: Pool
    pairs: Path

    @property
    def records(self) -> Path:
        """Folder of what is under way."""
        return Path("runs/datamodel") / self.name

    @property
    def runs(self) -> Path:
        """The finished runs."""
        return _DATA / f"datamodel_{self.name}.parquet"

    @property
    def predictors(self) -> Path:
        """What is known of the tasks before any training."""
        return _DATA / f"predictors_{self.name}.parquet"

    def stored_tasks(self) -> list[StoredTask]:
        """The stored pairs of the pool's tasks, in its order."""
        stored = {task.task_id: task for task in load(self.pairs)}
        return [stored[task.id] for task in self.pool]


def evidence_pool(name: str) -> EvidencePool:
    """A pool by its name: the bundled one, or the real tasks with short prompts.

    Raises:
        SystemExit: If the real tasks are not there.
    """
    if name == "bundled":
        return EvidencePool(name, training_pool(), held_out_pool(), SECOND)
    if not REAL_TASKS.is_dir():
        raise SystemExit(f"{REAL_TASKS}: the real tasks are not there (docs/benchmarking.md)")
    pools = split(load_niv2(REAL_TASKS), seed=0)
    measured = {task.task_id for task in load(REAL_PAIRS)}
    pool = pools.pool.subset([task.id for task in pools.pool if task.id in measured])
    return EvidencePool(name, pool, pools.held_out, REAL_PAIRS)
