"""Exactness, loads and speed on one GPU, with its peers, in ten minutes; no download.

    python -m benchmarks.gpu [--stages precision,speed,...] [--minutes 10] [--out runs/gpu]
                             [--results benchmarks/results] [--tasks-folder FOLDER] [--tiny]

Stages, in order of what they tell:

- `precision`: SmolLM2-135M in three precisions against transformers in float32; loads of good,
  stale and other weights
- `speed`: an 8B shape with random weights: jostle, and whole-prompt log-probabilities on vLLM
- `small`: SmolLM2-135M
- `demo`: `jostle demo`
- `peers`: the 8B shape by a padded loop over transformers
- `variants`: the 8B shape with other settings of the engine

A stage that is done is not done again, one that fails is told and the next goes on, and one that
would not end in time is not begun. After each, `gpu-DEVICE.json` and `.txt` hold all there is.
Records are kept by device, and go on with the same versions and tasks only. Without a GPU, `--tiny`
tries the script itself in some minutes.
"""

from __future__ import annotations

import argparse
import datetime
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.common.pairs import REAL_TASKS
from benchmarks.common.turns import keep_for
from benchmarks.gpu_stages.gpu_demo import DemoStage
from benchmarks.gpu_stages.gpu_precision import PrecisionStage
from benchmarks.gpu_stages.gpu_speed import SpeedStage, batches
from benchmarks.gpu_stages.gpu_stage import Bench, Stage, Variant, find_device, going_on
from benchmarks.gpu_stages.gpu_tables import print_tables
from benchmarks.peers.contenders import slug
from engine.bench.machine_facts import this_machine
from engine.files import write_json

RESULTS = Path(__file__).parent / "results"

WHOLE_PROMPTS = ("vLLM, whole-prompt log-probabilities", "whole", dict[str, str]())

VARIANTS = (
    Variant(
        "jostle, prefixes shared to their last token", environment={"JOSTLE_SHARED_TAILS": "1"}
    ),
    Variant("jostle, vLLM's own rows", environment={"JOSTLE_OUTPUT_ROWS": "0"}),
    Variant("jostle, V1 runner", environment={"VLLM_USE_V2_MODEL_RUNNER": "0"}),
    Variant("jostle, steps of 16,384 tokens", ("--max-num-batched-tokens=16384",)),
    Variant("jostle, float32 logits", ('--hf-overrides={"head_dtype":"float32"}',)),
)
"""What `speed` compares with; the engine's own choice is measured in that stage itself."""

STAGES: dict[str, Callable[[Bench], Stage]] = {
    "precision": PrecisionStage,
    "speed": lambda bench: SpeedStage(
        bench,
        "speed",
        [Variant("jostle")],
        [WHOLE_PROMPTS],
        estimate_s=150,
        whole=True,
        kv_gib=10.0,
    ),
    "small": lambda bench: SpeedStage(
        bench, "small", [Variant("jostle")], small=True, estimate_s=60, kv_gib=4.0
    ),
    "demo": DemoStage,
    "peers": lambda bench: SpeedStage(
        bench, "peers", peers=batches(16, 32), pairs_of_peers=330, estimate_s=45
    ),
    "variants": lambda bench: SpeedStage(
        bench, "variants", bench.variants or VARIANTS, estimate_s=90
    ),
}


class Session:
    """Goes through the stages that are not done; each leaves its record.

    Beside a stage that measures no speed the processes of the next ones start.

    Args:
        after: Called after each stage.
    """

    def __init__(
        self,
        bench: Bench,
        after: Callable[[], None],
        stages: Mapping[str, Callable[[Bench], Stage]] = STAGES,
    ) -> None:
        self._bench = bench
        self._after = after
        self._stages = stages
        self._begun: dict[str, Stage] = {}

    def run(self, names: Sequence[str]) -> None:
        """Does all of them, and ends whatever they have started."""
        waiting = [name for name in names if not _done(self._bench, name)]
        try:
            for index, name in enumerate(waiting):
                self._do(name, waiting[index + 1 :])
        finally:
            for stage in self._begun.values():
                stage.stop()

    def _do(self, name: str, following: Sequence[str]) -> None:
        stage = self._begun.get(name) or self._stages[name](self._bench)
        if name not in self._begun and not self._in_time(stage):
            print(f"{name}: not begun, there is no time for it", flush=True)
            return
        started = time.monotonic()
        today = datetime.date.today().isoformat()
        record: dict[str, Any] = {"rows": [], "fault": None, "date": today}

        def note(row: dict[str, Any]) -> None:
            record["rows"].append(row)
            self._bench.write(name, record | {"fault": "broke off"})
            print(f"{name}: {row}", flush=True)

        with going_on(record.update, {}):
            if name not in self._begun:
                self._begin(name, stage)
            if not stage.timed:
                self._begin_beside(following)
            stage.work(note)
        stage.stop()
        if record["fault"]:
            print(f"{name}: {record['fault']}", flush=True)
        self._bench.write(name, record | {"seconds": time.monotonic() - started})
        self._after()

    def _begin(self, name: str, stage: Stage) -> None:
        self._begun[name] = stage
        stage.begin()

    def _begin_beside(self, following: Sequence[str]) -> None:
        """Starts the processes of the next stages too, of as many as the memory holds."""
        room = (self._bench.gib or 0.0) - 4 - sum(stage.gib for stage in self._begun.values())
        for name in following:
            ahead = self._stages[name](self._bench)
            room -= ahead.gib
            if room < 0 or not ahead.patient or not self._in_time(ahead):
                return
            with going_on(lambda row: print(row["fault"], flush=True), {}):
                self._begin(name, ahead)

    def _in_time(self, stage: Stage) -> bool:
        return time.monotonic() + stage.estimate_s <= self._bench.deadline


def _done(bench: Bench, name: str) -> bool:
    found = bench.read(name)
    return found is not None and found["fault"] is None


def report(bench: Bench, results: Path) -> None:
    """Writes what all stages know so far, as JSON and as tables."""
    known = {name: record for name in STAGES if (record := bench.read(name))}
    console = Console(width=140, record=True)
    print_tables(console, bench.device.name, known)
    results.mkdir(parents=True, exist_ok=True)
    file = results / f"gpu-{slug(bench.device.name)}"
    file.with_suffix(".txt").write_text(console.export_text())
    found = {
        "command": "python -m benchmarks.gpu",
        "date": max((record.get("date", "") for record in known.values()), default=""),
        "machine": this_machine().model_dump(mode="json"),
        "device": bench.device.name,
        "stages": known,
    }
    write_json(file.with_suffix(".json"), found)


def parse_variant(words: str) -> Variant:
    """A variant from words: those before the first flag or variable are its name."""
    flags = tuple(word for word in words.split() if word.startswith("--"))
    given = dict(word.split("=", 1) for word in words.split() if "=" in word and word not in flags)
    name = [word for word in words.split() if word not in flags and "=" not in word]
    return Variant(" ".join(name), flags, given)


def main() -> None:
    """Runs the stages asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--stages", default=",".join(STAGES))
    parser.add_argument("--minutes", type=float, default=10.0, help="no stage ends later")
    parser.add_argument("--out", type=Path, default=Path("runs/gpu"))
    parser.add_argument(
        "--results", type=Path, help="by default benchmarks/results, or OUT if --tiny"
    )
    parser.add_argument("--tasks-folder", type=Path, default=REAL_TASKS)
    parser.add_argument(
        "--variant",
        action="append",
        default=[],
        help="in place of those of `variants`: NAME and flags of vLLM or VARIABLE=VALUE, in words",
    )
    parser.add_argument("--tiny", action="store_true", help="try the script itself")
    chosen = parser.parse_args()
    names = chosen.stages.split(",")
    if unknown := set(names) - STAGES.keys():
        parser.error(f"no such stage: {', '.join(sorted(unknown))}")
    deadline = time.monotonic() + 60 * chosen.minutes
    bench = Bench(
        chosen.out, find_device(), chosen.tasks_folder, deadline=deadline, tiny=chosen.tiny
    )
    folder = chosen.tasks_folder
    tasks = folder.resolve() if folder.is_dir() else "bundled"
    versions = this_machine().packages
    keep_for(bench.out, {"versions": versions, "tasks": tasks, "tiny": chosen.tiny})
    bench.variants = [parse_variant(words) for words in chosen.variant]
    results = chosen.results or (bench.out if chosen.tiny else RESULTS)
    Session(bench, lambda: report(bench, results)).run(names)
    report(bench, results)


if __name__ == "__main__":
    main()
