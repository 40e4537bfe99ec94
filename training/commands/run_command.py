"""`jostle run` as a function: from a config file to a finished run, or to its plan."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from engine.files import write_bytes
from engine.pools.estimate import Rate, time_in_words
from engine.weights.models import resolve_model
from training.commands.launch import make_builder, plan_races, run_config, share_device
from training.config.config_file import read_config
from training.config.run_config import RunConfig
from training.report.display import describe_plan, plan_table, shown_path, summary_table
from training.report.progress_lines import open_progress
from training.run.base_model import check_fit
from training.run.planning import RunPlan, plan_run
from training.run.round_scoring import check_selection
from training.run.run_folder import RunFolder
from training.run.run_pools import Pools, check_run, leave_out_unfit, load_pools
from training.run.summary import SummaryRow, read_summary
from training.trainer.trainer_check import check_trainable

PLANNED_CONFIG = "config.planned.toml"
"""What a dry run writes the resolved config to, in the run folder."""


def run_from_file(
    config_file: Path,
    *,
    run_dir: Path,
    overrides: Sequence[str] = (),
    console: Console | None = None,
) -> list[SummaryRow]:
    """Start the run of a config file, or go on with it; the table at the end.

    Args:
        config_file: TOML, see `training.config.run_config.RunConfig`.
        run_dir: The run folder.
        overrides: `section.field=value`.

    Raises:
        InputError: If config, pool, model or run folder are at fault.
        EngineError: If an engine fails.
        TrainingError: If the trainer fails.
    """
    console, folder = console or Console(), RunFolder(run_dir)
    config, pools = _opened(config_file, folder, overrides)
    started = time.monotonic()
    with open_progress(console) as progress:
        run_config(folder, config, pools, progress)
    from training.report.run_report import write_run_report

    report = write_run_report(folder, pools.pool)
    rows = read_summary(folder)
    console.print()
    console.print(summary_table(rows))
    where = f"Report    {shown_path(report)}"
    console.print(where, highlight=False, markup=False, soft_wrap=True)
    console.print(f"Took      {time_in_words(time.monotonic() - started)}", highlight=False)
    return rows


def plan_from_file(
    config_file: Path,
    *,
    run_dir: Path,
    overrides: Sequence[str] = (),
    pairs_per_second: float | None = None,
    console: Console | None = None,
) -> tuple[RunConfig, RunPlan]:
    """Write the resolved config and show what the run will take; nothing is started.

    Args:
        pairs_per_second: How fast the engine is, to reckon time with.

    Raises:
        InputError: If config, pool or model are at fault.
    """
    console, folder = console or Console(), RunFolder(run_dir)
    config, pools = _opened(config_file, folder, overrides)
    location = str(resolve_model(config.model.name))
    check_fit(config, location)
    check_trainable(config, location)
    builder = make_builder(location, config)
    pools = leave_out_unfit(pools, config, builder)
    with open_progress(console) as progress:
        races = plan_races(config, pools, builder, progress)
    plan = plan_run(
        config,
        pools,
        builder,
        races,
        location=location,
        run_dir=folder.path,
        rate=None if pairs_per_second is None else Rate(pairs_per_second=pairs_per_second),
    )
    written = folder.path / PLANNED_CONFIG
    write_bytes(written, config.to_toml().encode())
    console.print(plan_table(plan))
    lines = [*describe_plan(plan), f"config   {written}"]
    if not config.engine.urls and (shared := share_device(location, config)).reason:
        lines.append(shared.reason)
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    return config, plan


def _opened(
    config_file: Path, folder: RunFolder, overrides: Sequence[str]
) -> tuple[RunConfig, Pools]:
    """The config and its pools, when what can be told before any work is checked."""
    config = read_config(config_file, overrides)
    check_selection(config)
    check_run(config, folder.path)
    return config, load_pools(config)


def default_folder(config_file: Path) -> Path:
    """`runs/` and the name of the config file."""
    return Path("runs") / config_file.stem
