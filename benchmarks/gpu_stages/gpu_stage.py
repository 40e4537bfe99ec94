"""What the stages of `benchmarks.gpu` share: the machine, the models, a record as they go."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from benchmarks.common.pairs import REAL_TASKS
from benchmarks.common.random_model import LLAMA_8B, TINY, write_random
from benchmarks.peers.contenders import slug
from engine.files import write_json
from engine.process.gpu_memory import GIB, visible_gpus
from engine.prompts import PromptBuilder
from engine.prompts.prompt_config import PromptConfig
from engine.weights.models import BUNDLED_MODEL, resolve_model

MAX_MODEL_LEN = 2048

Note = Callable[[dict[str, Any]], None]
"""Takes a row of a stage, which is on disk when it returns."""


@dataclass(frozen=True)
class Variant:
    """A way to start a server of ours.

    Attributes:
        name: What the table calls it.
        flags: Flags of vLLM.
        environment: Environment variables.
    """

    name: str
    flags: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)


class Stage(Protocol):
    """A part of the benchmark with processes of its own.

    Attributes:
        name: What `--stages` and its file call it.
        estimate_s: Seconds it takes on an H100.
        gib: Device memory it needs at once.
        timed: Whether it measures speed, and so wants the machine for itself.
        patient: Whether what it starts waits until it is asked.
    """

    name: str
    estimate_s: float
    gib: float
    timed: bool
    patient: bool

    def begin(self) -> None:
        """Starts what takes long to start, and returns."""

    def work(self, note: Note) -> None:
        """Waits for that, measures, and tells each row as it is known."""

    def stop(self) -> None:
        """Ends all its processes; safe to call again."""


@contextmanager
def going_on(note: Note, row: dict[str, Any]) -> Iterator[None]:
    """Whatever fails inside is noted as the row's `fault`, and what comes after it goes on."""
    try:
        yield
    except Exception as error:  # noqa: BLE001  a GPU may be there for these ten minutes only
        note(row | {"fault": f"{type(error).__name__}: {error}"})


@dataclass(frozen=True)
class Device:
    """The accelerator, or none.

    Attributes:
        name: What the driver calls it; `cpu` without one.
        gib: Its memory; None without one.
    """

    name: str
    gib: float | None


def find_device() -> Device:
    """The first GPU."""
    gpus = visible_gpus()
    if not gpus:
        return Device("cpu", None)
    return Device(gpus[0].name, None if gpus[0].total is None else gpus[0].total / GIB)


class Bench:
    """One run of the benchmark.

    Args:
        out: Records, logs and checkpoints.
        tasks: Folder of real tasks; the bundled pool where there is none.
        deadline: On the monotonic clock: nothing begins that is estimated to end later.
        tiny: Whether everything is as small as it gets, to try the script itself.

    Attributes:
        variants: What the stage of this name compares; none: the usual ones.
    """

    def __init__(
        self,
        out: Path,
        device: Device,
        tasks: Path = REAL_TASKS,
        *,
        deadline: float = math.inf,
        tiny: bool = False,
    ) -> None:
        self.out = out.resolve() / (slug(device.name) + ("-tiny" if tiny else ""))
        self.out.mkdir(parents=True, exist_ok=True)
        self.device = device
        self.gib = device.gib
        self.tasks = tasks
        self.deadline = deadline
        self.tiny = tiny
        self.variants: list[Variant] = []
        self.small = str(resolve_model(BUNDLED_MODEL))

    def large(self) -> Path:
        """A folder with the shape of an 8B model and no weights."""
        return write_random(self.out / "random-model", TINY if self.tiny else LLAMA_8B)

    def few(self, number: int) -> int:
        """So many; one if tiny."""
        return 1 if self.tiny else number

    def memory(self, kv_gib: float) -> tuple[str, ...]:
        """Flags of an engine that shares the device, with so much memory for keys and values."""
        if self.gib is None:
            return ()
        # vLLM refuses to start unless so large a part is free, and otherwise does not use it then.
        return (
            f"--kv-cache-memory-bytes={int(kv_gib * 2**30)}",
            "--gpu-memory-utilization=0.05",
        )

    def cache(self, name: object) -> dict[str, str]:
        """Environment of an engine that keeps what it compiles in a folder of this name."""
        return {"VLLM_CACHE_ROOT": str(self.out / f"cache-{slug(str(name))}")}

    def builder(self, model: str) -> PromptBuilder:
        """Prompts as the engine builds them."""
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(model)
        return PromptBuilder(tokenizer, PromptConfig(), MAX_MODEL_LEN)

    def record(self, stage: str) -> Path:
        """The file of a stage."""
        return self.out / f"{stage}.json"

    def read(self, stage: str) -> dict[str, Any] | None:
        """What a stage has left, whole or not; None if it never began."""
        file = self.record(stage)
        if not file.is_file():
            return None
        found: dict[str, Any] = json.loads(file.read_text())
        return found

    def write(self, stage: str, record: dict[str, Any]) -> None:
        """Keeps what a stage knows so far."""
        write_json(self.record(stage), record)
