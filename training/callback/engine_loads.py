"""Weights from a trainer's memory into running engines, in a thread of their own."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

from engine.client import EngineClient
from engine.errors import EngineError, InputError, UnavailableError
from engine.keys import client_keys
from engine.protocol.score_config import ScoreConfig
from engine.tasks import Task
from engine.weights.manifest import Manifest, Precision, Probe
from engine.weights.publishing import describe, part_folder, seal
from training.callback.callback_folder import CallbackFolder

logger = logging.getLogger(__name__)

_RETRY_SECONDS = 1.0


@dataclass(frozen=True)
class Snapshot:
    """Weights as they were at a step, on their way to the engines.

    Attributes:
        step: Optimiser steps done.
        base: What the training started from; of an adapter, what it belongs to.
        dtype: What the probes were computed in.
        probes: Pairs with the log-probabilities of the model in memory.
        write: Writes the weights into a folder.
        blocked: Seconds that the training waited for all this.
    """

    step: int
    base: str
    dtype: Precision
    probes: tuple[Probe, ...]
    write: Callable[[Path], None]
    blocked: float


@dataclass
class LoadReport:
    """What came of a snapshot.

    Attributes:
        step: Of the snapshot.
        blocked: Seconds that the training waited.
        version: The weights version; None: they could not be published.
        seconds: By engine, from the call to verified weights.
        faults: What went wrong, by engine; what went wrong before any of them has the name "".
        prompt_uncertainty: Mean over the tasks that have one.
        flip_rate: Likewise.
    """

    step: int
    blocked: float
    version: str | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)
    prompt_uncertainty: float | None = None
    flip_rate: float | None = None

    def metrics(self) -> dict[str, float | str]:
        """The numbers for a tracker of experiments; what was not measured is missing."""
        known = {
            "version": self.version,
            "weights_step": self.step,
            "blocked_seconds": self.blocked,
            "load_seconds": max(self.seconds.values(), default=None),
            "engines": len(self.seconds),
            "failures": len(self.faults),
            "prompt_uncertainty": self.prompt_uncertainty,
            "flip_rate": self.flip_rate,
        }
        return {f"hot_reload/{name}": value for name, value in known.items() if value is not None}


class EngineLoads:
    """Publishes snapshots and has engines load them, one after the other.

    A snapshot that nobody has begun with makes way for a newer one.

    Args:
        urls: The engines.
        folder: Where checkpoints go, in a folder named by the engines, below the weights root of
            each of them. Those that no engine serves any more are removed, what earlier trainings
            left there included; none while an engine does not answer.
        patience_s: Seconds to wait for an engine that is being started again.
        tasks: Scored by the first engine that has loaded a snapshot.
        design: How they are scored.
    """

    def __init__(
        self,
        urls: Sequence[str],
        folder: Path,
        patience_s: float,
        tasks: Iterable[Task],
        design: ScoreConfig,
        keys: tuple[str | None, str | None] = (None, None),
    ) -> None:
        known = client_keys(os.environ, *keys)
        self._engines = {
            url: EngineClient(url, known.api, admin_key=known.admin, patience_s=0.0) for url in urls
        }
        self._folder, self._patience_s = CallbackFolder(folder, urls), patience_s
        self._tasks, self._design = tuple(tasks), design
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="hot-reload")
        self._running: list[Future[LoadReport]] = []
        self._offered: list[Snapshot] = []
        self._thread.submit(self._remove_old)

    def check(self) -> None:
        """Asks every engine which weights are live.

        Raises:
            EngineError: Of the first that does not answer.
        """
        for engine in self._engines.values():
            engine.weights()

    def offer(self, snapshot: Snapshot) -> None:
        """Takes a snapshot, and returns at once."""
        if sum(not each.done() and each.cancel() for each in self._running):
            logger.warning("weights before those of step %d are left out", snapshot.step)
            self._offered.clear()  # the executor keeps what it was given until its turn comes
        self._offered = [snapshot]
        self._running.append(self._thread.submit(self._handle, self._offered))

    def refuse(self, report: LoadReport) -> None:
        """Takes what is to be told, in its turn, of weights that are not published."""
        told: Future[LoadReport] = Future()
        told.set_result(report)
        self._running.append(told)

    def reports(self, *, wait: bool = False) -> Iterator[LoadReport]:
        """What came of snapshots, each once.

        Args:
            wait: Whether to wait for those that are under way.
        """
        while self._running and (wait or self._running[0].done()):
            try:
                yield self._running.pop(0).result()
            except CancelledError:
                continue

    def wait(self) -> None:
        """Waits for what is under way."""
        wait(self._running)

    def close(self) -> None:
        """Waits for what is under way, and closes the connections."""
        self._thread.shutdown()
        for engine in self._engines.values():
            engine.close()

    def _handle(self, offered: list[Snapshot]) -> LoadReport:
        snapshot = offered.pop()
        report = LoadReport(snapshot.step, snapshot.blocked)
        try:
            checkpoint, manifest = self._publish(snapshot)
        except InputError as error:
            report.faults[""] = str(error)
        except Exception as error:  # noqa: BLE001  what cannot be saved is told of, as all that fails
            report.faults[""] = f"{type(error).__name__}: {error}"
        if report.faults:
            self._remove_old()  # the next ones may want the space
            return report
        report.version = manifest.version
        for url, engine in self._engines.items():
            try:
                report.seconds[url] = self._load(engine, checkpoint, manifest.version)
            except (InputError, EngineError) as error:
                report.faults[url] = str(error)
        self._remove_old(checkpoint.name)
        if report.seconds and self._tasks:
            self._score(next(iter(report.seconds)), report)
        return report

    def _publish(self, snapshot: Snapshot) -> tuple[Path, Manifest]:
        name = f"step-{snapshot.step:06d}"
        # Another callback of the same trainer may be at the same step in the same folder.
        with part_folder(self._folder.path / f"{name}.{id(self):x}") as part:
            snapshot.write(part)
            manifest = describe(
                part,
                name,
                base_model=snapshot.base,
                dtype=snapshot.dtype,
                probes=snapshot.probes,
            )
            seal(part, manifest)
            return self._folder.place(part, manifest.version), manifest

    def _load(self, engine: EngineClient, checkpoint: Path, version: str) -> float:
        """Seconds of a load, tried again where the engine went away in the middle of it."""
        deadline, again = time.monotonic() + self._patience_s, True
        while True:
            began = time.monotonic()
            try:
                if engine.weights().version != version:
                    engine.load_weights(checkpoint, version)
                return time.monotonic() - began
            except UnavailableError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(_RETRY_SECONDS)
            except EngineError:
                if not again:
                    raise
                again = False

    def _remove_old(self, *newest: str) -> None:
        """Removes what no engine names; nothing as long as one does not say what is live."""
        if not self._folder.others(newest):
            return
        named: set[str] = set()
        for engine in self._engines.values():
            try:
                engine.ready()  # not while it loads: what it has not named yet it names afterwards
                state = engine.weights()
            except (InputError, EngineError) as error:
                logger.info("no old weights are removed: %s", error)
                return
            named |= {Path(each).name for each in (state.path, state.base) if each}
        self._folder.remove(self._folder.others({*newest, *named}))

    def _score(self, url: str, report: LoadReport) -> None:
        try:
            scores = list(self._engines[url].score(self._tasks, self._design))
        except (InputError, EngineError) as error:
            report.faults[url] = f"scoring failed: {error}"
            return
        if {score.weights_version for score in scores} == {report.version}:
            report.prompt_uncertainty = _mean(score.prompt_uncertainty for score in scores)
            report.flip_rate = _mean(score.flip_rate for score in scores)


def _mean(values: Iterable[float | None]) -> float | None:
    return fmean(known) if (known := [value for value in values if value is not None]) else None
