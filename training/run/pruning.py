"""Which published checkpoints a run still needs, and the removal of the others."""

from __future__ import annotations

import shutil

from engine.files import read_json, write_bytes
from engine.weights.manifest import MANIFEST_NAME
from training.config.run_config import CheckpointConfig
from training.run.run_folder import RunFolder
from training.run.state import RunState, RunStep
from training.run.summary import RoundMetrics

PRUNED_MANIFEST = "checkpoint.pruned.json"
"""The manifest of a checkpoint that was removed: what it held, and how to prove it."""


def rounds_to_keep(folder: RunFolder, state: RunState, config: CheckpointConfig) -> set[int]:
    """Rounds whose checkpoint stays.

    Always: the live one, the last one that has been evaluated, and all that have not been yet.
    """
    evaluated = [each.round for each in state.completed if each.step == RunStep.EVALUATE]
    published = [each.round for each in state.completed if each.step == RunStep.PUBLISH]
    keep = set(published) - set(evaluated)
    keep.update(evaluated[-1:] if config.keep_last is not None else evaluated)
    if state.live_round is not None:
        keep.add(state.live_round)
    if config.keep_last is not None:
        keep.update(evaluated[-config.keep_last :])
    if config.keep_best and evaluated:
        keep.add(max(evaluated, key=lambda index: _rouge_l(folder, index)))
    return keep


def prune(folder: RunFolder, state: RunState, config: CheckpointConfig) -> list[int]:
    """Remove the checkpoints that need not stay; the rounds whose checkpoint is gone now.

    Only checkpoints of rounds that are done are looked at. A checkpoint is renamed before it is
    removed, so that nobody finds half of one.
    """
    keep = rounds_to_keep(folder, state, config)
    removed = []
    for each in folder.rounds():
        going = each.path / ".checkpoint.pruned"
        if each.index not in keep and each.checkpoint.is_dir():
            manifest = (each.checkpoint / MANIFEST_NAME).read_bytes()
            write_bytes(each.path / PRUNED_MANIFEST, manifest)
            each.checkpoint.rename(going)
            removed.append(each.index)
        if going.is_dir():
            shutil.rmtree(going)
    return removed


def _rouge_l(folder: RunFolder, index: int) -> float:
    return read_json(folder.round(index).metrics, RoundMetrics).evaluation.overall.rouge_l
