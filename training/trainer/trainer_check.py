"""What the trainer is asked before there is a job: it is started when much has been computed."""

from __future__ import annotations

import shutil
import subprocess
from typing import Any, cast

from engine.errors import InputError
from engine.tasks import Record
from engine.weights.models import local_folder
from training.config.run_config import RunConfig, TrainConfig
from training.trainer.child_process import last_spoken, start_child, stop_child

CHECK = "--check"
"""In place of a job: a `TrainerQuestion` comes on stdin, and nothing is trained."""


_NOT_RELOADED = {"gpt_oss"}  # see `engine.server.vllm.worker`, which refuses such loads


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
    """That the model is trained whole, and has what `lora` and `attention` name.

    Where these are given, the trainer is asked, which takes seconds. With a launcher, which may
    start on other devices, it is not asked about the attention.

    Args:
        model: Folder or hub id of the run's model.

    Raises:
        InputError: If it is not, or has not; an adapter would change the output layer with the
            embeddings; or one that is to be published could not be merged.
    """
    train, trusted = config.train, config.model.trust_remote_code
    _check_trained_whole(model, trust_remote_code=trusted, whole=train.publish == "merged")
    if train.lora is not None or (train.attention is not None and not train.launcher):
        _ask(TrainerQuestion(config=train, model=model, trust_remote_code=trusted))


def _check_trained_whole(model: str, *, trust_remote_code: bool, whole: bool) -> None:
    """`InputError` if transformers would train none of the model, or its text part alone, or the
    engine would not load all that is trained.

    The checkpoint of a part is that of another model than the one that is served.

    Args:
        whole: Whether all weights are published, not an adapter alone.
    """
    from transformers import CONFIG_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING, PreTrainedConfig

    try:
        config, _ = PreTrainedConfig.get_config_dict(local_folder(model))
    except (OSError, ValueError):
        return  # who loads it says what is wrong
    name, models = str(config.get("model_type")), cast("Any", MODEL_FOR_CAUSAL_LM_MAPPING)
    own_code = trust_remote_code and "AutoModelForCausalLM" in config.get("auto_map", {})
    if whole and name in _NOT_RELOADED:
        problem = f"is a {name}, of which vLLM would keep some of the weights it started with"
        raise InputError(problem, file=model, field="model.name")
    if own_code or name not in CONFIG_MAPPING:
        return
    of_all = CONFIG_MAPPING[name]
    part = of_all.sub_configs.get("text_config")
    if of_all not in models:
        problem = f"is a {name}, of which transformers has no causal language model to train"
        raise InputError(problem, file=model, field="model.name")
    if part is not None and models[of_all].config_class is part:
        problem = f"a {name} is served, of which transformers trains the {part.model_type} alone"
        raise InputError(problem, file=model, field="model.name")


def _ask(question: TrainerQuestion) -> None:
    pipe = subprocess.PIPE
    child = start_child(CHECK, question.model or "", (), stdin=pipe, stdout=pipe)
    try:
        told, _ = child.communicate(question.model_dump_json().encode())
    finally:
        stop_child(child)
    if child.returncode != 0:
        raise InputError(last_spoken(told.decode(errors="replace")))
