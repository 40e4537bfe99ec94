"""A trainer's callback: engines follow the training, each load verified against the live model."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

from transformers import TrainerCallback

from engine.client.wire import PATIENCE_S, server_address
from engine.errors import EngineError, InputError
from engine.pools.opening import open_pool
from engine.protocol.completions import TokenPair
from engine.protocol.score_config import ScoreConfig
from engine.tasks import Task
from engine.weights.manifest import Precision, Probe
from engine.weights.models import local_folder
from engine.weights.probing import probe_logprobs, text_pairs
from training.callback.engine_loads import EngineLoads, LoadReport, Snapshot
from training.trainer.trained_model import (
    active_adapter,
    check_mergeable,
    gather_state,
    save_adapter_files,
    save_model_files,
    unwrapped,
)

logger = logging.getLogger(__name__)

_COARSE: tuple[Precision, ...] = ("float32", "float16", "bfloat16")


class HotReload(TrainerCallback):
    """Has engines load the weights while they are trained, with any trainer of transformers or TRL.

    At every epoch or so many steps, and at the end, the weights are copied, with log-probabilities
    that the live model gives to some pairs. The training goes on while a thread publishes them and
    the engines load and verify them. Of a peft model the active adapter is published. What came of
    it goes to `reports`, to the trainer's log history, and, until its reporters end, to where its
    `report_to` says. At the end the training waits for the last weights. An engine that fails and
    weights that are not finite are told of, and the training goes on.

    Args:
        url: One engine or several.
        every: `epoch`, or a number of optimiser steps.
        score: Tasks, or a pool as `engine.pools.opening.open_pool` takes it, to be scored after
            each load.
        folder: Where checkpoints go, each callback's in a folder named by its engines, below the
            weights root of these; None: `_hot-reload` in the trainer's output folder, which
            `push_to_hub` leaves out. One that no engine serves any more is removed, when all
            engines answer; those of earlier trainings too.
        pairs: Pairs that prove the weights; None: some sentences in the trainer's tokenizer.
        design: How tasks are scored.
        must_load: Raise what goes wrong with weights or at an engine: before the training if it
            does not answer, else as soon as it is known.
        patience_s: Seconds to wait for an engine that is being started again.
        api_key: Key of the engines; None: see `engine.keys.client_keys`.
        admin_key: Their key for loading weights; None: likewise.

    Raises:
        InputError: If an address, `every` or the pool is wrong.
    """

    def __init__(
        self,
        url: str | Sequence[str],
        every: Literal["epoch"] | int = "epoch",
        score: str | Path | Iterable[Task] | None = None,
        *,
        folder: str | Path | None = None,
        pairs: Sequence[TokenPair] | None = None,
        design: ScoreConfig | None = None,
        must_load: bool = False,
        patience_s: float = PATIENCE_S,
        api_key: str | None = None,
        admin_key: str | None = None,
    ) -> None:
        if every != "epoch" and not (isinstance(every, int) and every > 0):
            raise InputError(f"is {every!r}, neither 'epoch' nor a number of steps", field="every")
        urls = [url] if isinstance(url, str) else list(url)
        self._urls = [server_address(each) for each in urls]
        self._every = every
        self._folder = None if folder is None else Path(folder)
        self._tasks = tuple(open_pool(score) if isinstance(score, str | Path) else score or ())
        self._design = design or ScoreConfig()
        self._pairs = pairs
        self._must_load, self._patience_s = must_load, patience_s
        self._keys = (api_key, admin_key)
        self._loads: EngineLoads | None = None
        self._last: int | None = None
        self._reporters: list[TrainerCallback] | None = None
        self._reporters_listen = True
        self.reports: list[LoadReport] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Looks at the engines, and at whether the model can be published at all."""
        self._last, self._reporters_listen = None, True
        processing_class = more["processing_class"]
        model = unwrapped(more["model"])
        if getattr(model, "peft_config", None) is not None:
            check_mergeable(model, str(model.name_or_path))
        if processing_class is None:
            raise InputError("the trainer was given no tokenizer", field="processing_class")
        if self._pairs is None:
            encode = getattr(processing_class, "tokenizer", processing_class).encode
            self._pairs = text_pairs(partial(encode, add_special_tokens=False))
        if not state.is_world_process_zero:
            return
        if any(getattr(model, f"is_loaded_in_{bits}bit", False) for bits in (4, 8)):
            logger.warning(
                "the model is loaded in 4 or 8 bits: an engine merges the adapter into the weights "
                "that it serves, and gives other log-probabilities if these are not quantised"
            )
        folder = self._folder or Path(args.output_dir) / "_hot-reload"
        self._loads = EngineLoads(
            self._urls, folder, self._patience_s, self._tasks, self._design, self._keys
        )
        try:
            self._loads.check()
        except EngineError as error:
            if self._must_load:
                self._close()
                raise
            logger.warning("an engine does not answer yet: %s", error)

    def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Copies the weights every so many steps."""
        if self._every != "epoch" and state.global_step % self._every == 0:
            self._copy(args, state, **more)
        self._take_reports(args, state, control, wait=False)

    def on_epoch_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Copies the weights at every epoch."""
        if self._every == "epoch":
            self._copy(args, state, **more)

    def on_log(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Waits for the last weights at the trainer's last entry, while its reporters listen."""
        # transformers 5.19 logs this after the last step, then takes the best weights, and ends its
        # reporters; those that end a run would begin another one.
        if "train_runtime" not in (more.get("logs") or ()):
            return
        last = not args.load_best_model_at_end
        if last and self._last != state.global_step:
            self._copy(args, state, **more)
        self._take_reports(args, state, control, wait=last)

    def on_train_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Waits until the last weights are live, those of the best checkpoint if that was asked."""
        self._reporters_listen = False
        if self._last != state.global_step or args.load_best_model_at_end:
            self._copy(args, state, **more)
        self._take_reports(args, state, control, wait=True)
        self._close()

    def wait(self) -> None:
        """Waits until all weights that were copied so far are live or have failed."""
        if self._loads is not None:
            self._loads.wait()

    def _close(self) -> None:
        if self._loads is not None:
            self._loads.close()
            self._loads = None

    def _copy(self, args: Any, state: Any, *, model: Any, processing_class: Any, **_: Any) -> None:
        began = time.monotonic()
        assert self._pairs is not None
        self._last = state.global_step
        bare = unwrapped(model)
        adapter = hasattr(bare, "peft_config")
        probes: tuple[Probe, ...] = ()
        fault = ""
        try:
            probes = probe_logprobs(model, self._pairs)
        except InputError as error:
            fault = f"{error}; nothing is loaded"
        part = "lora_" if adapter else ""
        # Of all processes, whatever one of them has found.
        copy = gather_state(model, first=state.is_world_process_zero, part=part)
        if copy is None or self._loads is None:
            return
        if fault:
            blocked = time.monotonic() - began
            self._loads.refuse(LoadReport(state.global_step, blocked, faults={"": fault}))
            return
        base = str(bare.name_or_path)
        write: Callable[[Path], None]
        if adapter:
            write = partial(save_adapter_files, bare, name=active_adapter(bare), state=copy)
        else:
            base = str(local_folder(base)) if base else ""
            write = partial(
                save_model_files, bare, base=base, state=copy, tokenizer=processing_class
            )
        self._loads.offer(
            Snapshot(
                step=state.global_step,
                base=base,
                dtype=_precision(args, bare),
                probes=probes,
                write=write,
                blocked=time.monotonic() - began,
            )
        )

    def _take_reports(self, args: Any, state: Any, control: Any, *, wait: bool) -> None:
        if self._loads is not None:
            for report in self._loads.reports(wait=wait):
                self.reports.append(report)
                self._tell(report, args, state, control)

    def _tell(self, report: LoadReport, args: Any, state: Any, control: Any) -> None:
        for url, fault in report.faults.items():
            problem = f"weights of step {report.step} at {url or 'publishing'}: {fault}"
            logger.warning("%s", problem)
            if self._must_load:
                self._close()
                raise EngineError(problem)
        metrics = report.metrics()
        state.log_history.append({**metrics, "step": state.global_step})
        logger.info("%s", metrics)
        for reporter in self._own_reporters(args) if self._reporters_listen else ():
            numbers = {k: v for k, v in metrics.items() if not isinstance(v, str)}
            try:
                reporter.on_log(args, state, control, logs=numbers, model=None)
            except Exception as error:  # noqa: BLE001  a report is not worth a training
                logger.warning("%s takes no metrics: %s", type(reporter).__name__, error)

    def _own_reporters(self, args: Any) -> list[TrainerCallback]:
        """A callback knows neither its trainer nor those beside it, so these are their twins."""
        if self._reporters is None:
            from transformers import integrations

            find: Any = integrations.get_reporting_integration_callbacks  # type: ignore[attr-defined]
            kinds = find(args.report_to)
            self._reporters = [kind() for kind in kinds]
        return self._reporters


def _precision(args: Any, model: Any) -> Precision:
    """The coarsest of what the weights are and what the forward pass computes in."""
    mixed = {"no": "float32", "fp16": "float16"}.get(args.mixed_precision, "bfloat16")
    own = str(model.dtype).removeprefix("torch.")
    if own not in _COARSE:
        raise InputError(f"holds weights in {own}, which cannot be verified", field="model")
    return _COARSE[max(map(_COARSE.index, (own, mixed)))]
