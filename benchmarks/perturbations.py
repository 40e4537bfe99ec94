"""How prompt uncertainty, its ranking and its top move with the design and the perturbation.

    python -m benchmarks.perturbations collect [--seconds 560]      # goes on where it was
    python -m benchmarks.perturbations write                        # what is whole, as Parquet
    python -m benchmarks.perturbations analyse

Every setting scores the bundled pool once with the base model, one thing changed from the defaults
of `jostle score`; layers compute in bfloat16, logits in float32. A setting is judged by itself (two
halves of it that share neither instances nor perturbations) and against the defaults. Measures and
designs are compared on stored pairs.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import polars as pl
from rich.console import Console

from benchmarks.common.lines import append_line, check_one_key, read_lines
from benchmarks.evidence.evidence_pools import SHARE_HELP, share
from benchmarks.evidence.perturbation_tables import (
    DEFAULT,
    grids_of,
    show_designs,
    show_measures,
    show_settings,
)
from benchmarks.reference_pairs import SECOND
from benchmarks.reference_pairs import STORED as REAL_PAIRS
from engine.pools.bundled import training_pool
from engine.protocol.score_config import ScoreConfig

JOURNAL = Path("runs/perturbations")
STORED = Path(__file__).parent / "data" / "perturbations.parquet"
RESULT = Path("benchmarks/results/perturbations.txt")
WIDTH = 165

SETTINGS: dict[str, dict[str, Any]] = {
    DEFAULT: {},
    "gold outputs": {"reference": "gold"},
    **{f"rate {rate}": {"perturbation": {"rate": rate}} for rate in (0.05, 0.1, 0.3, 0.5)},
    **{
        name.replace("_", " "): {"perturbation": {"name": name}}
        for name in ("mask_words", "shuffle_words", "typos", "letter_case", "formatting")
    },
    "example inputs dropped": {"perturbation": {"name": "drop_example_inputs"}},
}
"""What each setting changes, in the order in which they are scored."""


def config_of(setting: str) -> ScoreConfig:
    """The whole design of a setting."""
    changes = dict(SETTINGS[setting])
    if "perturbation" in changes:
        changes["perturbation"] = {"name": "drop_words"} | changes["perturbation"]
    return ScoreConfig.model_validate(changes)


def collect(journal: Path, seconds: float, part: tuple[int, int] = (1, 1)) -> None:
    """Scores what the journal does not hold, a file per setting and a line per task.

    Args:
        part: Which of how many processes side by side this is: each takes its own settings.
    """
    from benchmarks.evidence.laboratory import laboratory_key, load_model
    from benchmarks.evidence.pack_scoring import score_tasks
    from benchmarks.evidence.shoot_out import SCORED_IN, copy_for_scoring
    from engine.prompts import PromptBuilder

    began, longest = time.monotonic(), 0.0
    base, tokenizer = load_model()
    model = copy_for_scoring(base)
    references: dict[str, dict[str, list[tuple[int, ...]]]] = {}
    for setting in list(SETTINGS)[part[0] - 1 :: part[1]]:
        config = config_of(setting)
        builder = PromptBuilder(tokenizer, config.prompt, 2048)
        file = journal / f"{setting}.jsonl"
        key = laboratory_key(
            base, config.model_dump_json(), training_pool().digest(), str(SCORED_IN)
        )
        done = {record["task_id"] for record in read_lines(file, key)}
        for task in training_pool():
            if task.id in done:
                continue
            started = time.monotonic()
            if started - began + longest > seconds:
                return
            known = references.setdefault(config.reference, {})
            (scored,) = score_tasks(model, [task], config, builder, known=known)
            record = {
                "key": key,
                "task_id": task.id,
                "original_tokens": scored.original_tokens,
                "perturbed_tokens": scored.perturbed_tokens,
                "pairs": scored.table().to_dicts(),
            }
            append_line(file, record)
            longest = max(longest, time.monotonic() - started)
        print(f"{setting}: done, {time.monotonic() - began:.0f} s", flush=True)


def write(journal: Path, target: Path) -> None:
    """The pairs of all settings whose tasks have all been scored, as one Parquet file."""
    parts: dict[str, pl.DataFrame] = {}
    for setting in SETTINGS:
        records = read_lines(journal / f"{setting}.jsonl")
        check_one_key(records, journal / f"{setting}.jsonl")
        if {record["task_id"] for record in records} != {task.id for task in training_pool()}:
            continue
        tables = [
            pl.DataFrame(record["pairs"]).select(
                "task_id",
                pl.col("instance_id", "is_greedy"),
                pl.col("perturbation", "n_tokens", "n_prompt_tokens").cast(pl.Int16),
                pl.col("logprob", "probability").cast(pl.Float32),
                setting=pl.lit(setting),
                task_tokens=pl.lit(
                    record["original_tokens"] + record["perturbed_tokens"], pl.Int32
                ),
            )
            for record in records
        ]
        parts[setting] = pl.concat(tables)
    if DEFAULT not in parts:
        raise SystemExit(f"{journal}: the defaults are not whole yet; collect goes on")
    originals = {
        setting: part.filter(perturbation=0).sort("task_id", "instance_id").drop("setting")
        for setting, part in parts.items()
    }
    for setting, part in originals.items():
        same = originals[DEFAULT].select("n_tokens", "logprob")
        if config_of(setting).reference == "generated" and not same.equals(
            part.select("n_tokens", "logprob")
        ):
            raise SystemExit(f"{journal}: {setting} and the {DEFAULT} are of other weights")
    pl.concat(parts.values()).write_parquet(target, compression="zstd", compression_level=19)


def analyse(data: Path, target: Path) -> None:
    """The tables of all settings that were scored, and of the pairs that are stored anyway."""
    console = Console(width=WIDTH, record=True)
    scored = pl.read_parquet(data) if data.exists() else None
    if scored is not None:
        show_settings(scored, console)
        usual = grids_of(scored.filter(setting=DEFAULT))
        show_measures(usual, f"the {DEFAULT} of these settings", console)
    for file, kind in ((SECOND, "bundled"), (REAL_PAIRS, "real")):
        stored = pl.read_parquet(file)
        grids = grids_of(stored)
        n, k = grids[0].p.shape
        title = f"{len(grids)} {kind} tasks, {n} x {k - 1}, outputs of at most 8 tokens"
        show_measures(grids, title, console)
        show_designs(stored, title, console)
    target.write_text(console.export_text())


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("what", choices=["collect", "write", "analyse"])
    parser.add_argument("--journal", type=Path, default=JOURNAL)
    parser.add_argument("--seconds", type=float, default=560.0, help="no task is begun beyond it")
    parser.add_argument("--share", type=share, default=(1, 1), help=SHARE_HELP)
    parser.add_argument("--data", type=Path, default=STORED)
    parser.add_argument("--target", type=Path, default=RESULT)
    chosen = parser.parse_args()
    if chosen.what == "collect":
        collect(chosen.journal, chosen.seconds, chosen.share)
    elif chosen.what == "write":
        write(chosen.journal, chosen.data)
    else:
        analyse(chosen.data, chosen.target)


if __name__ == "__main__":
    main()
