"""The pools on which evidence is gathered, and where what is known of them lies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
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
FAMILIES = ("mmmlu", "bbh_logical_deduction")
"""Parts of the names of real tasks that are alike but for their subject or size."""


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
        return runs_file(self.name)

    @property
    def predictors(self) -> Path:
        """What is known of the tasks before any training."""
        return predictors_file(self.name)

    def stored_tasks(self) -> list[StoredTask]:
        """The stored pairs of the pool's tasks, in its order."""
        stored = {task.task_id: task for task in load(self.pairs)}
        return [stored[task.id] for task in self.pool]


def runs_file(name: str) -> Path:
    """The finished runs of a pool."""
    return _DATA / f"datamodel_{name}.parquet"


def rounds_file(name: str) -> Path:
    """The rounds of the shoot-out on a pool."""
    return _DATA / f"replication_{name}.parquet"


def predictors_file(name: str) -> Path:
    """What is known of a pool's tasks before any training."""
    return _DATA / f"predictors_{name}.parquet"


SHARE_HELP = "1/2: of two processes side by side, the first"


def share(text: str) -> tuple[int, int]:
    """What an option such as `1/2` says: the first of two processes."""
    number, _, of = text.partition("/")
    return int(number), int(of)


def family(task_id: str) -> str:
    """Tasks that are one in many subjects or sizes go by one name, all others by their own."""
    return next((name for name in FAMILIES if name in task_id), task_id)


def large_family(task_ids: Iterable[str]) -> str | None:
    """The family that a quarter of the tasks belongs to, or more."""
    families = Counter(map(family, task_ids))
    name, count = families.most_common(1)[0]
    return name if count > 1 and 4 * count >= families.total() else None


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
