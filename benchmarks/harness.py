"""The released lm-evaluation-harness on vLLM, on transformers, and on jostle, in one run.

    python -m benchmarks.harness [--questions 32] [--eager] [--ways vllm,transformers,jostle]
                                 [--folder FOLDER] [--results FOLDER]

Each on the same tasks: multiple choice with four answers and 5 shots, classification with 8 shots
that are the same for all questions (as in MMLU), and with 8 drawn for each question. One process
per way; the clock runs over the whole of `simple_evaluate`. Ways that a folder has answers of are
not run again. Needs `pip install --no-deps -r requirements/benchmarks.txt`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from operator import sub
from pathlib import Path

from benchmarks.common.result_file import RESULTS, ResultFile
from benchmarks.common.turns import keep_for
from benchmarks.peers.harness_tasks import TASKS, write_task
from benchmarks.peers.harness_ways import WAYS, Given, WayResult
from engine.process.settings import choose_settings
from engine.weights.models import resolve_model


def run(way: str, given: Given, folder: Path) -> WayResult:
    """One way, in a process of its own with the cores, memory allocator and KV space of ours."""
    given_file, answer = folder / "given.json", folder / f"{way}.json"
    if answer.exists():
        return WayResult.model_validate_json(answer.read_bytes())
    given_file.write_text(given.model_dump_json())
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    if way != "jostle":
        environment = {**choose_settings().environment, **environment, "VLLM_PLUGINS": ""}
    with (folder / f"{way}.log").open("wb") as log:
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "benchmarks.peers.harness_ways",
                way,
                str(given_file),
                str(answer),
            ],
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    if done.returncode:
        raise SystemExit(f"{way} failed:\n{(folder / f'{way}.log').read_text()[-3000:]}")
    return WayResult.model_validate_json(answer.read_bytes())


def show(results: dict[str, WayResult], name: str, result: ResultFile) -> dict[str, float]:
    """The table of one task, ratios and differences to jostle's; its seconds by way."""
    tasks = {way: found.tasks[name] for way, found in results.items()}
    ours = tasks["jostle"]
    result.table(
        f"{name}: {ours.requests} pairs",
        ["way", "seconds", "", "of CPU", "", "acc", "acc_norm", "largest difference"],
        [
            [
                way,
                f"{each.seconds:.2f}",
                f"{each.seconds / ours.seconds:.1f} x",
                f"{each.cpu_seconds:.2f}",
                f"{each.cpu_seconds / ours.cpu_seconds:.1f} x",
                f"{each.metrics['acc']:.4f}",
                f"{each.metrics['acc_norm']:.4f}",
                f"{max(map(abs, map(sub, ours.logprobs, each.logprobs))):.1e}",
            ]
            for way, each in tasks.items()
        ],
    )
    return {f"seconds of {way}, {name}": each.seconds for way, each in tasks.items()}


def main() -> None:
    """Runs all ways and prints and writes the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--questions", type=int, default=32)
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument("--eager", action="store_true", help="no compilation, for all ways")
    parser.add_argument("--folder", type=Path, help="keeps answers, those that it has are taken")
    parser.add_argument("--results", type=Path, default=RESULTS)
    chosen = parser.parse_args()
    folder = chosen.folder or Path(tempfile.mkdtemp(prefix="jostle-benchmark-"))
    keep_for(folder, {"model": chosen.model, "questions": chosen.questions, "eager": chosen.eager})
    for task in TASKS:
        write_task(task, folder, chosen.questions)
    given = Given(
        model=str(resolve_model(chosen.model)),
        tasks=str(folder),
        shots={task.name: task.shots for task in TASKS},
        eager=chosen.eager,
    )
    ways = [*dict.fromkeys([*chosen.ways.split(","), "jostle"])]
    results = {way: run(way, given, folder) for way in ways}
    result = ResultFile("harness", chosen.results, width=100)
    figures: dict[str, float] = {}
    for task in TASKS:
        figures |= show(results, task.name, result)
    for way, found in results.items():
        least, most = f"{found.started_mib:,.0f}", f"{found.peak_mib:,.0f}"
        result.print(f"{way}: {least} MiB once it can score, {most} MiB at most")
    result.save(figures, chosen)


if __name__ == "__main__":
    main()
