"""How prompt uncertainty, its ranking and its top move with the design and the perturbation.

    python -m benchmarks.perturbations collect [--pool niv2] [--seconds 560]  # goes on where it was
    python -m benchmarks.perturbations write [--pool niv2]          # what is whole, as Parquet
    python -m benchmarks.perturbations analyse

Every setting scores the bundled pool once with the base model, one thing changed from the defaults
of `jostle score`; layers compute in bfloat16, logits in float32. A setting is judged by itself (two
halves of it that share neither instances nor perturbations) and against the defaults. Measures and
designs are compared on stored pairs. The real tasks take ten times as long, so they are asked one
question: whether dropping 0.3 of the words ranks them for fewer tokens than 0.2 does, as it did the
bundled ones. It does if the interval of the cost, of 95 % here where nothing else is asked, ends
below 1; the default stays the paper's either way.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import polars as pl
from rich.console import Console

from benchmarks.common.lines import append_line, check_one_key, read_lines
from benchmarks.evidence.evidence_pools import NAMES, SHARE_HELP, evidence_pool, share
from benchmarks.evidence.perturbation_tables import (
    DEFAULT,
    grids_of,
    show_designs,
    show_measures,
    show_settings,
)
from benchmarks.reference_pairs import SECOND
from benchmarks.reference_pairs import STORED as REAL_PAIRS
from engine.protocol.score_config import ScoreConfig

JOURNAL = Path("runs/perturbations")
DATA = Path(__file__).parent / "data"
STORED = {"bundled": DATA / "perturbations.parquet", "niv2": DATA / "perturbations_niv2.parquet"}
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

ASKED = {"bundled": tuple(SETTINGS), "niv2": (DEFAULT, "rate 0.3")}
"""Of each pool."""


def config_of(setting: str) -> ScoreConfig:
    """The whole design of a setting."""
    changes = dict(SETTINGS[setting])
    if "perturbation" in changes:
        changes["perturbation"] = {"name": "drop_words"} | changes["perturbation"]
    return ScoreConfig.model_validate(changes)


def collect(pool: str, journal: Path, seconds: float, part: tuple[int, int] = (1, 1)) -> None:
    """Scores what the journal does not hold, a file per setting and a line per task.

    Args:
        pool: One of `NAMES`.
        part: Which of how many processes side by side this is: each takes its own settings.
    """
    from benchmarks.evidence.laboratory import laboratory_key, load_model
    from benchmarks.evidence.pack_scoring import score_tasks
    from benchmarks.evidence.shoot_out import SCORED_IN, copy_for_scoring
    from engine.prompts import PromptBuilder

    began, longest = time.monotonic(), 0.0
    base, tokenizer = load_model()
    model = copy_for_scoring(base)
    tasks = evidence_pool(pool).pool
    references: dict[str, dict[str, list[tuple[int, ...]]]] = {}
    for setting in ASKED[pool][part[0] - 1 :: part[1]]:
        config = config_of(setting)
        builder = PromptBuilder(tokenizer, config.prompt, 2048)
        file = journal / f"{setting}.jsonl"
        key = laboratory_key(base, config.model_dump_json(), tasks.digest(), str(SCORED_IN))
        done = {record["task_id"] for record in read_lines(file, key)}
        for task in tasks:
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


def write(pool: str, journal: Path, target: Path) -> None:
    """The pairs of all settings whose tasks have all been scored, as one Parquet file."""
    parts: dict[str, pl.DataFrame] = {}
    wanted = {task.id for task in evidence_pool(pool).pool}
    for setting in ASKED[pool]:
        records = read_lines(journal / f"{setting}.jsonl")
        check_one_key(records, journal / f"{setting}.jsonl")
        if {record["task_id"] for record in records} != wanted:
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


def analyse(target: Path) -> None:
    """The tables of all settings that were scored, and of the pairs that are stored anyway."""
    console = Console(width=WIDTH, record=True)
    for pool, data in STORED.items():
        if not data.exists():
            continue
        scored = pl.read_parquet(data)
        show_settings(scored, pool, console, level=0.995 if pool == "bundled" else 0.95)
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
    parser.add_argument("--pool", choices=NAMES, default=NAMES[0])
    parser.add_argument("--seconds", type=float, default=560.0, help="no task is begun beyond it")
    parser.add_argument("--share", type=share, default=(1, 1), help=SHARE_HELP)
    parser.add_argument("--target", type=Path, default=RESULT)
    chosen = parser.parse_args()
    journal = JOURNAL if chosen.pool == "bundled" else JOURNAL / chosen.pool
    if chosen.what == "collect":
        collect(chosen.pool, journal, chosen.seconds, chosen.share)
    elif chosen.what == "write":
        write(chosen.pool, journal, STORED[chosen.pool])
    else:
        analyse(chosen.target)


if __name__ == "__main__":
    main()
