"""From a config to a finished run: engines found or started, the folder locked, the rounds gone."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.client import EngineClient
from engine.client.wire import PATIENCE_S, UNSUPERVISED_PATIENCE_S
from engine.errors import EngineError, InputError
from engine.keys import client_keys
from engine.pools.writing import write_left_out
from engine.process.engine_process import EngineProcess
from engine.process.gpu_memory import visible_gpus
from engine.process.ports import check_port
from engine.process.settings import EngineSettings, flag_value
from engine.prompts import PromptBuilder
from engine.protocol.engine_calls import Engine
from engine.weights.checkpoint_check import check_whole
from engine.weights.identity import open_tokenizer
from engine.weights.models import local_folder, model_name
from training.config.run_config import EngineConfig, ModelConfig, RunConfig
from training.report.after_round import ReportAfterRounds
from training.report.display import RichProgress
from training.run.base_model import base_location, check_base, check_fit
from training.run.device_plan import DevicePlan, plan_device, read_model_size
from training.run.finetune import Train
from training.run.fleet import Fleet
from training.run.live_engine import check_prompts
from training.run.progress_file import ProgressFile
from training.run.round_races import RoundRaces
from training.run.rounds import Run
from training.run.run_folder import RunFolder
from training.run.run_pools import Pools, leave_out_unfit, take_validation
from training.run.state import find_state
from training.tables.lock import RunLock
from training.trainer.trainer_check import check_trainable
from training.trainer.trainer_process import TrainJob, TrainResult, WaitingTrainer, run_trainer

logger = logging.getLogger(__name__)

ENGINE_START_SECONDS = 40.0
"""What the engine's start usually takes, for the bar; and no limit."""


@dataclass(frozen=True)
class EngineFiles:
    """Where an engine reads and writes.

    Attributes:
        log: Takes its output.
        paraphrases: Keeps the paraphrases its client asks for.
        weights_root: Folder below which it may load checkpoints; None: none may be loaded.
    """

    log: Path
    paraphrases: Path
    weights_root: Path | None = None

    @classmethod
    def of(cls, folder: RunFolder) -> EngineFiles:
        return cls(folder.engine_log, folder.paraphrases, folder.path)


class OwnEngine:
    """An engine of one's own, which can be stopped and started again; a context manager.

    Args:
        location: Folder or hub id of the base model.
        model: Its context, and whether its code may run.
        config: Flags, port and the like; its `urls` are of no use here.
        plan: How it shares the device with the trainer; None: there is no trainer.
        n_trainers: Trainers that are started beside it, to wait for their jobs.
    """

    def __init__(
        self,
        location: str,
        model: ModelConfig,
        files: EngineFiles,
        progress: RichProgress,
        config: EngineConfig | None = None,
        plan: DevicePlan | None = None,
        n_trainers: int = 0,
    ) -> None:
        self.location = location
        self.model = model
        self.files = files
        self.config = config or EngineConfig()
        self.progress = progress
        self.plan = plan
        self.n_trainers = n_trainers
        self._trainers: list[WaitingTrainer] = []
        self._process: EngineProcess | None = None
        self._client: EngineClient | None = None

    def __enter__(self) -> OwnEngine:
        check_whole(self.location, flag_value(self.config.flags, "load-format"))
        # An engine starts on one core, so that what trainers import costs no time here.
        if self.plan is not None and not self.plan.train.launcher:
            self._trainers = [WaitingTrainer(self.location) for _ in range(self.n_trainers)]
        try:
            self.start()
        except BaseException:
            self._stop_trainers()
            raise
        return self

    def __exit__(self, _type: object, error: BaseException | None, _trace: object) -> None:
        self._stop_trainers()
        if self._client is not None:
            self._client.close()
        explained = None
        if self._process is not None and isinstance(error, EngineError):
            explained = self._process.explained(error)
        self.stop()
        if explained:
            raise explained from error

    def start(self) -> None:
        """Start it and wait until it answers.

        Raises:
            InputError: If the configured port is taken.
            EngineError: If it does not come up.
        """
        chosen = self.config
        if chosen.port is not None:
            check_port(chosen.port, field="engine.port")
        started = time.monotonic()
        process = EngineProcess.start(
            self.location,
            log_file=self.files.log,
            weights_root=self.files.weights_root,
            port=chosen.port,
            name=model_name(self.model.name),
            trust_remote_code=self.model.trust_remote_code,
            long_running=chosen.long_running,
            extra_args=(
                f"--max-model-len={self.model.max_model_len}",
                "--trust-request-chat-template",  # its requests are ours
                *(self.plan.engine_flags if self.plan else []),
                *chosen.flags,
            ),
        )
        self._process = process
        try:
            process.wait_ready(
                on_wait=lambda seconds: self.progress.waiting(
                    "start the engine", seconds, ENGINE_START_SECONDS
                )
            )
        except BaseException:
            self.stop()
            raise
        if self._client is None:
            self._client = make_client(
                process.url, self.files.paraphrases, patience_s=UNSUPERVISED_PATIENCE_S
            )
        else:
            self._client.move(process.url)
        self.progress.done("start the engine", time.monotonic() - started, process.url)

    def stop(self) -> None:
        if self._process is not None:
            self._process.stop()
            self._process = None

    @property
    def client(self) -> EngineClient:
        """Its client, the same after every start."""
        assert self._client is not None, "the engine was not started"
        return self._client

    @property
    def settings(self) -> EngineSettings:
        """What was chosen for this device."""
        assert self._process is not None, "the engine was not started"
        return self._process.settings

    @property
    def url(self) -> str:
        """Where it listens."""
        assert self._process is not None, "the engine was not started"
        return self._process.url

    def train(self, job: TrainJob, **options: Any) -> TrainResult:
        """`run_trainer` as planned: beside the engine, or while it sleeps or is stopped."""
        assert self.plan is not None
        job = job.model_copy(update={"config": self.plan.in_pieces(job.config)})
        if self._trainers:
            options["waiting"] = self._trainers.pop()
        if self.plan.sharing == "keep":
            return run_trainer(job, **options)
        sleeps = self.plan.sharing == "sleep" and self._falls_asleep()
        if not sleeps:
            self.stop()
        result = run_trainer(job, **options)  # where it fails, nobody goes on with the engine
        if not sleeps or not self._wakes_up():
            self.start()
        return result

    def _stop_trainers(self) -> None:
        for each in self._trainers:
            each.stop()
        self._trainers = []

    def _falls_asleep(self) -> bool:
        try:
            self.client.release_weights()
        except (EngineError, InputError) as error:
            logger.warning("the engine is stopped, for it does not sleep: %s", error)
            return False
        return True

    def _wakes_up(self) -> bool:
        try:
            self.client.restore_weights()
        except EngineError as error:
            logger.warning("the engine is started again, for it does not wake up: %s", error)
            self.stop()
            return False
        return True


def make_client(url: str, paraphrases: Path, *, patience_s: float) -> EngineClient:
    """A client with the keys of the environment.

    Args:
        url: Where the engine is, without `/v1`.
        patience_s: Seconds to wait for an engine that went away.
    """
    keys = client_keys(os.environ)
    return EngineClient(
        url,
        keys.api,
        admin_key=keys.admin,
        paraphrases=paraphrases,
        patience_s=patience_s,
    )


def make_builder(location: str, config: RunConfig) -> PromptBuilder:
    """Prompts as the engine builds them."""
    trusted = config.model.trust_remote_code
    tokenizer = open_tokenizer(location, "model.name", trust_remote_code=trusted)
    return PromptBuilder(tokenizer, config.score.prompt, config.model.max_model_len)


def share_device(location: str, config: RunConfig) -> DevicePlan:
    """How an engine of one's own and the trainer share this machine's GPU."""
    return plan_device(visible_gpus(), read_model_size(local_folder(location)), config)


OpenEngine = Callable[
    [str, RunFolder, RunConfig, RichProgress], AbstractContextManager[tuple[Engine, Train]]
]
"""`open_engine`, or what is called in its place."""


@contextmanager
def open_engine(
    location: str,
    folder: RunFolder,
    config: RunConfig,
    progress: RichProgress,
    n_trainers: int = 0,
) -> Iterator[tuple[Engine, Train]]:
    """The engine of a config, and the trainer that goes with it.

    Args:
        n_trainers: Trainings of which one knows beforehand, for a short run: their processes import
            what they need while the engine starts, each in half a gigabyte.
    """
    urls = config.engine.urls
    if not urls:
        plan = share_device(location, config)
        if plan.reason:
            progress.console.print(f"  {plan.reason}", highlight=False, soft_wrap=True)
        files = EngineFiles.of(folder)
        model, engine = config.model, config.engine
        with OwnEngine(location, model, files, progress, engine, plan, n_trainers) as own:
            yield own.client, own.train
        return
    # Where there are others, the work of an engine that died need not wait until it is back.
    patience_s = PATIENCE_S if len(urls) == 1 else UNSUPERVISED_PATIENCE_S
    clients = [make_client(url, folder.paraphrases, patience_s=patience_s) for url in urls]
    try:
        fleet = Fleet(dict(zip(urls, clients, strict=True)))
        yield clients[0] if len(clients) == 1 else fleet, run_trainer
    finally:
        for client in clients:
            client.close()


def plan_races(
    config: RunConfig, pools: Pools, builder: PromptBuilder, progress: RichProgress
) -> RoundRaces | None:
    """The races of a run, with a bar while their prompts are measured; none without `select.race`.

    Raises:
        InputError: See `training.run.round_races.RoundRaces`.
    """
    if config.select.race is None:
        return None
    started = time.monotonic()
    scored, _ = take_validation(pools.pool, config.train.validation_tasks, config.evaluate.seed)
    progress.open("measure prompts", len(scored), "tasks")
    races = RoundRaces(scored, config, builder, progress.advance)
    progress.done("measure prompts", time.monotonic() - started, f"{len(scored):,} tasks")
    return races


def run_config(
    folder: RunFolder,
    config: RunConfig,
    pools: Pools,
    progress: RichProgress,
    *,
    location: str | None = None,
    n_steps: int | None = None,
    engine: OpenEngine | None = None,
) -> None:
    """Go through all rounds of a config that are not done.

    Args:
        folder: The run folder; held by this process for as long as it takes.
        location: What the model's name stands for, if that is known already.
        n_steps: Stop when so many steps of the plan are done; none: at its end.
        engine: Opens the engine; `open_engine` when none.

    Raises:
        InputError: If another process holds the folder, or it belongs to another run or model.
        EngineError: If an engine fails.
        TrainingError: If the trainer fails.
    """
    location = location or base_location(folder, config.model.name)
    with RunLock(folder.lock):
        if config.pool.skip_faulty:
            pools = leave_out_unfit(pools, config, make_builder(location, config))
        state = find_state(folder, config, pools.pool, pools.held_out)
        if state is not None and state.is_done(n_steps):
            return
        check_base(state, location)
        check_fit(config, location)
        if state is None or not state.has_trained:
            check_trainable(config, location)
        if config.pool.skip_faulty:
            write_left_out(folder.skipped, pools.left_out)
        builder = make_builder(location, config)
        races = plan_races(config, pools, builder, progress)
        with (engine or open_engine)(location, folder, config, progress) as (client, train):
            if config.engine.urls:
                check_prompts(client.weights(), builder, location, new=state is None)
            Run(
                folder,
                config,
                pool=pools.pool,
                held_out=pools.held_out,
                engine=client,
                builder=builder,
                base_model=location,
                progress=ReportAfterRounds(
                    folder, pools.pool, ProgressFile(folder.progress, progress)
                ),
                train=train,
                races=races,
            ).run(n_steps)
