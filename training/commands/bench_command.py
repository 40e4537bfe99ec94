"""`jostle bench` as a function: from what is asked to a result."""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from engine.bench.bench_calls import STOCK, Calls, text_length
from engine.bench.bench_result import BenchResult, Reading
from engine.bench.bench_turns import KINDS, BenchTurns, Reloads, agreement
from engine.bench.load_client import LoadClient
from engine.bench.machine_facts import this_machine
from engine.bench.pool_times import PoolTimes
from engine.bench.synthetic_tasks import synthetic_tasks
from engine.bench.workload import Load, Shape, Timing, Workload, WorkloadName
from engine.errors import EngineError, InputError
from engine.keys import ClientKeys
from engine.pools import open_pool
from engine.pools.estimate import Rate, TaskSample
from engine.pools.options import PoolOptions
from engine.prompts import PromptBuilder
from engine.protocol.score_config import ScoreConfig
from engine.protocol.weights_state import WeightsState
from engine.tasks import Task, digest_tasks
from engine.weights.manifest import read_manifest
from engine.weights.models import local_folder
from training.commands.launch import EngineFiles, OwnEngine, make_builder
from training.commands.publish_folder import publish_folder
from training.config.run_config import EngineConfig, ModelConfig, PoolConfig, RunConfig
from training.report.display import RichProgress
from training.run.planning import plan_run
from training.run.run_pools import leave_out_unfit, load_pools

SYNTHETIC_TASKS = 64
POOL_TASKS = 512
"""Tasks that are made up, and of a pool drawn, at most."""
SCORING_AT_ONCE = 128
"""Pairs of one scoring that an engine has in flight."""


@dataclass(frozen=True)
class BenchAsked:
    """What a bench is asked to measure.

    Attributes:
        pool: Whose tasks it takes; None: tasks made up.
        options: How that is read.
        shape: Of tasks made up.
        against_stock: Whether vLLM's own route is measured on the same pairs.
        loads: None: as full as a scoring keeps an engine.
        estimates: Whether the pool's times are told.
        checkpoint: What `reload` loads by turns with what is live; None: a copy of the model.
    """

    name: WorkloadName
    config: ScoreConfig
    loads: tuple[Load, ...] | None
    timing: Timing
    shape: Shape
    options: PoolOptions
    pool: str | None = None
    per_request: int = 1
    reload_every: float = 2.0
    against_stock: bool = False
    estimates: bool = False
    checkpoint: Path | None = None


@dataclass(frozen=True)
class BenchEngine:
    """An engine that runs.

    Attributes:
        url: Where.
        origin: `started`, or the same.
        weights: What it serves.
        device: What it computes on, `cpu` or `cuda`; None where it is not told.
        flags: With which it was started, if it was.
        checkpoints: Folders that are loaded by turns, with their versions.
    """

    url: str
    origin: str
    weights: WeightsState
    device: str | None = None
    flags: tuple[str, ...] = ()
    checkpoints: tuple[tuple[Path, str], ...] = ()


class Bench:
    """A workload, laid out before any engine is started.

    Args:
        builder: Makes what lays out prompts as the engine does; called if it is needed.
        tokenizer: Digest of its tokenizer; None: that of the builder's.

    Raises:
        InputError: If a task or an option is at fault.
    """

    def __init__(
        self,
        asked: BenchAsked,
        builder: Callable[[], PromptBuilder],
        tokenizer: str | None = None,
    ) -> None:
        self._asked = asked
        builder = cache(builder)
        self.n_tasks = self.n_pairs = 0
        self._length = 0.0
        tasks = self._drawn() if asked.pool else self._made_up(builder())
        if tokenizer is None:
            from engine.protocol.served_model import tokenizer_identity

            tokenizer = tokenizer_identity(builder().tokenizer)
        self.workload = Workload(
            name=asked.name,
            tasks=asked.pool or "synthetic",
            shape=None if asked.pool else asked.shape,
            n_tasks=len(tasks),
            digest=digest_tasks(tasks),
            tokenizer=tokenizer,
            config=asked.config,
            per_request=asked.per_request,
            reload_every=asked.reload_every if asked.name == "reload" else None,
        )
        self._ways: list[tuple[str, ...]] = [KINDS[asked.name]]
        if asked.against_stock:
            self._ways.append((STOCK,))
        self._loads = asked.loads or (self._scoring_load(),)
        kinds = [kind for way in self._ways for kind in way]
        self._calls = Calls(self.workload, tasks, kinds, builder)

    def _made_up(self, builder: PromptBuilder) -> list[Task]:
        config = self._asked.config
        return synthetic_tasks(
            SYNTHETIC_TASKS, config.n_instances, self._asked.shape, config.seed, builder
        )

    def _drawn(self) -> list[Task]:
        """Tasks of the pool, in an order of the seed's."""
        config = self._asked.config
        sample = TaskSample(config, POOL_TASKS)
        for task in open_pool(self._asked.pool or "", self._asked.options):
            sample.add(task)
            self.n_tasks += 1
            self.n_pairs += config.n_prompts(len(task.instances))
            self._length += text_length(sample.sampled(task), config)
        random.Random(f"bench/{config.seed}").shuffle(sample.tasks)
        return sample.tasks

    def _scoring_load(self) -> Load:
        """Requests at once of a scoring; fewer of a small pool, or to measure takes longer than to
        score it.
        """
        config = self._asked.config
        at_once = math.ceil(SCORING_AT_ONCE / config.n_prompts(config.n_instances))
        return Load(concurrency=max(4, min(at_once, self.n_tasks // 16)))

    def run(self, engine: BenchEngine, keys: ClientKeys, progress: RichProgress) -> BenchResult:
        """All measurements.

        Raises:
            InputError: If the engine finds fault with a request.
            EngineError: If it fails.
        """
        begun = datetime.now(UTC).isoformat(timespec="seconds")
        agreed, readings = asyncio.run(self._measure(engine, keys, progress))
        return BenchResult(
            begun=begun,
            workload=self.workload,
            timing=self._asked.timing,
            loads=self._loads,
            readings=tuple(readings),
            machine=this_machine(),
            engine=engine.origin,
            device=engine.device,
            flags=engine.flags,
            weights=engine.weights,
            agreement=agreed,
        )

    async def _measure(
        self, engine: BenchEngine, keys: ClientKeys, progress: RichProgress
    ) -> tuple[float | None, list[Reading]]:
        asked, began, title = self._asked, time.monotonic(), ""

        def end() -> None:
            if title:
                progress.done(title, time.monotonic() - began, "")

        def begin(what: str) -> None:
            nonlocal began, title
            end()
            began, title = time.monotonic(), what
            progress.open(what, None, "s")

        def passed(seconds: float, expected: float | None) -> None:
            progress.advance(round(seconds), None if expected is None else round(expected))

        async with LoadClient(engine.url, keys.api, keys.admin) as client:
            agreed = await agreement(client, self._calls) if asked.against_stock else None
            turns = BenchTurns(
                client,
                self._calls,
                self._ways,
                self._loads,
                asked.timing,
                seed=asked.config.seed,
                in_a_row=asked.estimates,
                reloads=Reloads(engine.checkpoints, asked.reload_every)
                if engine.checkpoints
                else None,
                on_phase=begin,
                on_time=passed,
            )
            try:
                readings = await turns.take()
            except BaseException:
                if engine.checkpoints:
                    # Also where they seem live: a load may be under way, behind which this waits.
                    with contextlib.suppress(EngineError, InputError):
                        await _go_back(client, engine.weights)
                raise
            end()
            if engine.checkpoints and (await client.weights()).version != engine.weights.version:
                await _go_back(client, engine.weights)
        return agreed, readings

    def times(self, result: BenchResult, model: ModelConfig | None, location: str) -> PoolTimes:
        """How long the whole pool takes.

        Args:
            model: Of a run; None: a run is not reckoned.
            location: Where it lies.
        """
        times = result.estimated(self.n_tasks, self.n_pairs, self._length)
        if model is None:
            return times.model_copy(update={"run_words": "not reckoned: no model is named"})
        seconds, words = self._run_seconds(times, model, location)
        return times.model_copy(update={"run": seconds, "run_words": words})

    def _run_seconds(
        self, times: PoolTimes, model: ModelConfig, location: str
    ) -> tuple[float | None, str]:
        options = self._asked.options
        config = RunConfig(
            model=model,
            pool=PoolConfig(
                path=self._asked.pool or "",
                format=options.format,
                columns=options.columns,
                split=options.split,
                max_instances=options.max_instances,
                skip_faulty=True,
            ),
            score=self._asked.config,
        )
        try:
            builder = make_builder(location, config)
            pools = leave_out_unfit(load_pools(config), config, builder)
            rate = Rate(pairs_per_second=times.pairs / times.scoring)
            folder = Path("runs")
            plan = plan_run(config, pools, builder, location=location, run_dir=folder, rate=rate)
        except InputError as error:
            return None, f"cannot be planned: {error}"
        rounds, n_tasks = config.rounds, config.select.n_tasks
        return plan.seconds, f"scoring and training in {rounds} rounds of {n_tasks} tasks"


@contextlib.contextmanager
def started_engine(
    asked: BenchAsked,
    model: ModelConfig,
    location: str,
    flags: tuple[str, ...],
    log: Path,
    progress: RichProgress,
) -> Iterator[BenchEngine]:
    """An engine of one's own; for `reload` with a published copy of the model to load.

    Raises:
        InputError: If the model cannot be published.
        EngineError: If it does not come up.
    """
    with contextlib.ExitStack() as stack:
        root, checkpoint = None, asked.checkpoint
        if asked.name == "reload" and checkpoint is None:
            made = tempfile.TemporaryDirectory(prefix=".jostle-bench-", dir=log.parent)
            root = Path(stack.enter_context(made)).resolve()
            checkpoint = root / "copy"
            publish_folder(local_folder(location), checkpoint, name="bench")
        elif checkpoint is not None:
            root = checkpoint.resolve().parent
        files = EngineFiles(log, log.with_suffix(".paraphrases.jsonl"), root)
        config = EngineConfig(flags=flags)
        own = stack.enter_context(OwnEngine(location, model, files, progress, config))
        state = own.client.weights()
        checkpoints = reload_targets(checkpoint, state) if checkpoint else ()
        settings = own.settings
        length = f"--max-model-len={model.max_model_len}"
        flags = (*settings.flags, length, *flags)
        yield BenchEngine(own.url, "started", state, settings.device, flags, checkpoints)


def reload_targets(checkpoint: Path, live: WeightsState) -> tuple[tuple[Path, str], ...]:
    """A published checkpoint and what is live, to be loaded by turns.

    Raises:
        InputError: If it is not published.
    """
    version = read_manifest(checkpoint).version
    return (checkpoint, version), (Path(live.path), live.version)


async def _go_back(client: LoadClient, before: WeightsState) -> None:
    """What was live before loads were measured is live again."""
    verify = "probes" if before.is_base else before.verified or "probes"
    await client.load_weights(Path(before.path), before.version, verify=verify)
