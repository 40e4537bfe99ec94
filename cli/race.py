"""`jostle race`: the top N of a pool within a token budget."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Annotated

import typer

from cli.client import ApiKey, ChosenEngine, EngineModel, EngineModelLen, OwnUrl
from cli.pool import (
    ColumnNames,
    FormatName,
    MaxInstances,
    Overwrite,
    Spec,
    SplitName,
    SubsetName,
    TrustRemoteCode,
    pool_options,
)
from cli.score import ConfigFile


def race(
    pool: Spec,
    output: Annotated[Path, typer.Option("-o", "--output", help="Task ids, one per line.")],
    n_tasks: Annotated[int, typer.Option("-n", "--tasks", min=1, help="How many to take.")],
    budget: Annotated[
        int, typer.Option(min=1, help="Tokens that the engine may compute, at most.")
    ],
    url: OwnUrl = None,
    api_key: ApiKey = None,
    model: EngineModel = None,
    max_model_len: EngineModelLen = None,
    trust_remote_code: TrustRemoteCode = False,
    config: ConfigFile = None,
    max_output_tokens: Annotated[
        int | None, typer.Option(min=1, help="Longest output.", show_default="32")
    ] = None,
    by_category: Annotated[
        bool, typer.Option("--by-category", help="The top N of every category.")
    ] = False,
    prefixes_kept: Annotated[
        bool,
        typer.Option("--prefixes-kept", help="The engine's cache holds the prompts of all tasks."),
    ] = False,
    skip_faulty: Annotated[
        bool,
        typer.Option(
            "--skip-faulty",
            help="Leave out what cannot be read, and instances and tasks that cannot be scored; "
            "list them.",
        ),
    ] = False,
    seed: Annotated[int | None, typer.Option(help="Of every draw.", show_default="0")] = None,
    format_name: FormatName = None,
    column: ColumnNames = None,
    split: SplitName = None,
    subset: SubsetName = None,
    max_instances: MaxInstances = None,
    overwrite: Overwrite = False,
) -> None:
    """Find the most uncertain tasks, spending pairs where membership is still open.

    The same command again goes on where it broke off, and with a larger budget where it ended.

    Example: jostle race tasks/ -o selected.txt -n 50 --budget 2000000
    """
    from rich.console import Console

    from engine.design.entries import RaceConfig
    from engine.pools import open_pool
    from engine.pools.checks import LeftOut, count_records
    from engine.tasks import Pool
    from training.commands.launch import EngineFiles
    from training.config.run_config import check_racing
    from training.config.score_file import read_score_config
    from training.report.progress_lines import open_progress
    from training.run.summary import unmeasurable_in_words
    from training.tables.pool_racing import RaceFiles, plan_pool_race, race_on_disk

    files = RaceFiles(output)
    asked = read_score_config(config, {"max_output_tokens": max_output_tokens, "seed": seed}, {})
    check_racing(asked, config)
    options = pool_options(format_name, column, split, subset, max_instances, asked.seed)
    left_out = LeftOut() if skip_faulty else None
    opened = open_pool(pool, options, left_out)
    engine = ChosenEngine(url, api_key, model, max_model_len, trust_remote_code)
    rules = RaceConfig(n_select=n_tasks, budget=budget, prefixes_kept=prefixes_kept)
    with contextlib.ExitStack() as stack:
        more = not overwrite and files.ended_with_less(budget)
        inputs = (pool, *opened.files, config)
        stack.enter_context(files.claim(overwrite=overwrite, inputs=inputs, more=more))
        whole = Pool(list(opened), opened.source)
        builder = engine.builder(asked.prompt)
        counted = asked.with_second_readings(engine.dtype())
        progress = stack.enter_context(open_progress(Console(stderr=True)))
        started = time.monotonic()
        progress.open("measure prompts", len(whole), "tasks")
        planned, tasks = plan_pool_race(
            whole,
            counted,
            builder,
            rules,
            files,
            by_category=by_category,
            left_out=left_out,
            on_task=progress.advance,
        )
        progress.done("measure prompts", time.monotonic() - started, f"{len(tasks):,} tasks")
        where = EngineFiles(files.engine_log, files.paraphrases)
        client = stack.enter_context(engine.open(where, progress))
        progress.open("race", budget, "tokens")
        started = time.monotonic()
        result = race_on_disk(
            planned,
            tasks,
            client,
            asked,
            builder,
            files,
            by_category=by_category,
            left_out=left_out,
            on_progress=lambda tokens: progress.advance(round(tokens)),
        )
        progress.done("race", time.monotonic() - started, f"{result.tokens:,.0f} tokens")
    pairs = sum(standing.pairs for standing in result.standings)
    typer.echo(
        f"{output}: {len(result.selected):,} of {len(tasks):,} tasks after {pairs:,} pairs and "
        f"{result.tokens:,.0f} of {budget:,} tokens; {len(result.open):,} memberships are open"
    )
    if result.unmeasurable:
        left = unmeasurable_in_words(len(result.unmeasurable)).removeprefix("; ")
        typer.echo(f"{files.result}: {left}")
    typer.echo(f"{files.scores}: measures, interval and membership of every task")
    typer.echo(f"{files.pairs}: every scored pair")
    if left_out is not None and left_out.count:
        n_records = count_records(left_out.found)
        typer.echo(f"{files.skipped}: {n_records:,} record(s) left out, and why")
