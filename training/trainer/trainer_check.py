"""What the trainer is asked before there is a job: it is started when much has been computed."""

from __future__ import annotations

import shutil
import subprocess

from engine.errors import InputError
from engine.tasks import Record
from training.config.run_config import RunConfig, TrainConfig
from training.trainer.child_process import last_spoken, start_child, stop_child

CHECK = "--check"
"""In place of a job: a `TrainerQuestion` comes on stdin, and nothing is trained."""


class TrainerQuestion(Record):
    """Whether there can be such a training.

    Attributes:
        config: How to train.
        model: Folder or hub id to start from, whose shape decides what adapters find; None: it is
            not asked about.
        trust_remote_code: Whether code that comes with the model may run.
    """

    config: TrainConfig
    model: str | None = None
    trust_remote_code: bool = False


def check_trainer(config: TrainConfig) -> None:
    """That a training can start, whatever the model.

    Where `arguments` or `report_to` are given, the trainer itself is asked about them, which takes
    seconds; with a launcher about names alone.

    Raises:
        InputError: If the launcher's program is not there, TRL refuses an argument, or what is to
            be reported to is unknown or not installed.
    """
    if config.launcher and shutil.which(config.launcher[0]) is None:
        problem = f"no such program: {config.launcher[0]!r}"
        raise InputError(problem, field="train.launcher")
    if config.arguments or config.report_to:
        _ask(TrainerQuestion(config=config))


def check_trainable(config: RunConfig, model: str) -> None:
    """That the model has what `lora` and `attention` name, where they are given; takes seconds.
    With a launcher, which may start on other devices, the attention is not asked about.

    Args:
        model: Folder or hub id of the run's model.

    Raises:
        InputError: If it has not, or an adapter would change the output layer with the embeddings.
    """
    train, trusted = config.train, config.model.trust_remote_code
    if train.lora is not None or (train.attention is not None and not train.launcher):
        _ask(TrainerQuestion(config=train, model=model, trust_remote_code=trusted))


def _ask(question: TrainerQuestion) -> None:
    pipe = subprocess.PIPE
    child = start_child(CHECK, question.model or "", (), stdin=pipe, stdout=pipe)
    try:
        told, _ = child.communicate(question.model_dump_json().encode())
    finally:
        stop_child(child)
    if child.returncode != 0:
        raise InputError(last_spoken(told.decode(errors="replace")))
