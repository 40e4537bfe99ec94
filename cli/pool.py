"""`jostle pool`: check, count, convert, split and show pools of tasks."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.client import ApiKey, connect
from cli.terminal import fitted

if TYPE_CHECKING:
    from collections.abc import Iterable

    from engine.pools.options import PoolOptions
    from engine.prompts import PromptBuilder
    from engine.protocol.score_config import ScoreConfig
    from engine.tasks import Task

app = typer.Typer(
    help="Check, count, convert, split and show pools of tasks.", no_args_is_help=True
)

Spec = Annotated[
    str,
    typer.Argument(
        metavar="POOL",
        help="A file (.json, .jsonl, .csv, .tsv, .parquet), a folder, hub:DATASET, or bundled.",
    ),
]
FormatName = Annotated[
    str | None,
    typer.Option(
        "--format",
        help="super_natural_instructions, self_instruct, alpaca, prompt_completion, chat, jostle.",
        show_default="detected",
    ),
]
ColumnNames = Annotated[
    list[str] | None,
    typer.Option(
        "--column",
        metavar="ROLE=NAME",
        help="Which column is what; repeat it. Roles: id, task (rows are grouped into tasks by "
        "it), definition, input, output, messages, category.",
        show_default="the format's own",
    ),
]
SplitName = Annotated[
    str | None, typer.Option("--split", help="Split of a data set, or of a folder with splits.")
]
SubsetName = Annotated[
    str | None, typer.Option("--subset", help="Configuration of a data set on the hub.")
]
MaxInstances = Annotated[
    int | None,
    typer.Option(min=1, help="Keep this many instances of each task.", show_default="all"),
]
Seed = Annotated[int, typer.Option(help="Seed of every draw.")]
ModelName = Annotated[
    str | None,
    typer.Option("--model", help="smollm2-135m (bundled), a hub id, or a folder."),
]
MaxModelLen = Annotated[int, typer.Option(min=64, help="Context of the model, in tokens.")]
TrustRemoteCode = Annotated[
    bool, typer.Option("--trust-remote-code", help="Let code that comes with the model run.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]

SkipFaulty = Annotated[
    bool, typer.Option("--skip-faulty", help="Leave out what cannot be read, and list it.")
]


def pool_options(
    format_name: str | None,
    columns: list[str] | None,
    split: str | None,
    subset: str | None,
    max_instances: int | None = None,
    seed: int = 0,
) -> PoolOptions:
    """How a pool is read, by the options."""
    from engine.pools.options import Columns, PoolOptions, parse_columns

    return PoolOptions(
        format=format_name,
        columns=parse_columns(columns or (), Columns),
        split=split,
        subset=subset,
        max_instances=max_instances,
        seed=seed,
    )


def _builder(
    model: str | None, config: ScoreConfig, max_model_len: int, trust_remote_code: bool
) -> tuple[Any | None, PromptBuilder]:
    """The model's tokenizer, if one is named, and what lays prompts out in tokens or words."""
    from engine.errors import InputError
    from engine.pools.word_tokenizer import WordTokenizer
    from engine.prompts import PromptBuilder

    if model is None:
        if trust_remote_code:
            raise InputError("goes with --model", field="--trust-remote-code")
        return None, PromptBuilder(WordTokenizer(), config.prompt, max_model_len)
    from engine.weights.identity import open_tokenizer
    from engine.weights.models import resolve_model

    location = str(resolve_model(model))
    tokenizer = open_tokenizer(location, "--model", trust_remote_code=trust_remote_code)
    return tokenizer, PromptBuilder(tokenizer, config.prompt, max_model_len)


@app.command()
def validate(
    pools: Annotated[list[str], typer.Argument(metavar="POOL...", help="See jostle pool stats.")],
    format_name: FormatName = None,
    column: ColumnNames = None,
    split: SplitName = None,
    subset: SubsetName = None,
) -> None:
    """Tell every fault of every file with its place; exit code 2 if there is one."""
    from engine.pools.validate import validate_pool

    options = pool_options(format_name, column, split, subset)
    n_faults = 0
    for spec in pools:
        found = validate_pool(
            spec, options, lambda fault: typer.echo(fitted(str(fault), sys.stdout))
        )
        n_faults += found.faults
        for note in found.notes:
            typer.echo(fitted(f"note: {note}", sys.stdout))
        typer.echo(
            f"{found.source}: {found.faults} faults; {found.tasks:,} tasks with "
            f"{found.instances:,} instances in order ({found.format or 'unknown format'})"
        )
    if n_faults:
        raise typer.Exit(2)


@app.command()
def stats(
    pool: Spec,
    format_name: FormatName = None,
    column: ColumnNames = None,
    split: SplitName = None,
    subset: SubsetName = None,
    max_instances: MaxInstances = None,
    model: ModelName = None,
    trust_remote_code: TrustRemoteCode = False,
    max_model_len: MaxModelLen = 2048,
    instances: Annotated[int, typer.Option(min=1, help="Instances measured per task.")] = 10,
    perturbations: Annotated[int, typer.Option(min=1, help="Perturbed prompts per task.")] = 10,
    max_output_tokens: Annotated[int, typer.Option(min=1, help="Longest output.")] = 32,
    gold: Annotated[bool, typer.Option("--gold", help="Score gold outputs.")] = False,
    seed: Seed = 0,
    pairs_per_second: Annotated[
        float | None, typer.Option(help="Rate of the engine, to reckon time with.")
    ] = None,
    url: Annotated[
        str | None, typer.Option(help="URL of a running engine, to measure its rate.")
    ] = None,
    engine_tasks: Annotated[int, typer.Option(min=1, max=32, help="Tasks it is measured on.")] = 8,
    api_key: ApiKey = None,
    price_per_hour: Annotated[
        float | None, typer.Option(min=0, help="What an hour of the engine costs.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Count what is in a pool, and estimate what scoring it takes."""
    from engine.pools import open_pool
    from engine.pools.describe import describe_stats
    from engine.pools.estimate import Rate, estimate, measure_rate
    from engine.pools.stats import collect_stats
    from engine.protocol.score_config import ScoreConfig

    if url is not None and pairs_per_second is not None:
        raise typer.BadParameter("give either --url or --pairs-per-second")
    config = ScoreConfig(
        n_instances=instances,
        n_perturbations=perturbations,
        max_output_tokens=max_output_tokens,
        reference="gold" if gold else "generated",
        seed=seed,
    )
    rate = None if pairs_per_second is None else Rate(pairs_per_second=pairs_per_second)
    opened = open_pool(pool, pool_options(format_name, column, split, subset, max_instances, seed))
    tokenizer, builder = _builder(model, config, max_model_len, trust_remote_code)
    found, sample = collect_stats(opened, config, tokenizer)
    if url is not None:
        with connect(url, api_key) as client:
            rate = measure_rate(client, sample[:engine_tasks], config)
    taken = estimate(
        found.measured_instances,
        sample,
        config,
        builder,
        rate=rate,
        price_per_hour=price_per_hour,
    )
    found = found.model_copy(update={"estimate": taken})
    typer.echo(found.model_dump_json(indent=2) if as_json else describe_stats(found))


@app.command()
def convert(
    pool: Spec,
    output: Annotated[Path, typer.Argument(help="A .jsonl or .parquet file.")],
    format_name: FormatName = None,
    column: ColumnNames = None,
    split: SplitName = None,
    subset: SubsetName = None,
    max_instances: MaxInstances = None,
    seed: Seed = 0,
    selected: Annotated[
        Path | None,
        typer.Option(help="Only these tasks or single instances, as jostle select writes them."),
    ] = None,
    skip_faulty: SkipFaulty = False,
    overwrite: Overwrite = False,
) -> None:
    """Write a pool in our own form, one task per line or row."""
    from engine.files import check_output
    from engine.pools import open_pool
    from engine.pools.checks import LeftOut, count_records
    from engine.pools.writing import write_left_out, write_pool

    opened = open_pool(
        pool,
        pool_options(format_name, column, split, subset, max_instances, seed),
        LeftOut() if skip_faulty else None,
    )
    skipped = output.with_suffix(".skipped.jsonl")
    tasks: Iterable[Task] = opened
    read = [pool, *opened.files]
    if selected is not None:
        from engine.pools.selected import only_selected
        from training.selection.selection_record import read_task_ids

        tasks = only_selected(opened, read_task_ids(selected), selected)
        read.append(str(selected))
    if skip_faulty:
        check_output(skipped, overwrite=overwrite, inputs=read)
    written = write_pool(tasks, output, overwrite=overwrite, inputs=read)
    typer.echo(f"{output}: {written.tasks:,} tasks with {written.instances:,} instances")
    if skip_faulty:
        write_left_out(skipped, opened.faults.found)
    if left_out := count_records(opened.faults.found):
        typer.echo(f"{skipped}: {left_out:,} record(s) left out, and why")


@app.command("split")
def split_pool(
    pool: Spec,
    folder: Annotated[Path, typer.Argument(help="Where the two sides go.")],
    format_name: FormatName = None,
    column: ColumnNames = None,
    subset: SubsetName = None,
    share: Annotated[float, typer.Option(help="Share of the tasks that is held out.")] = 0.25,
    by: Annotated[
        str, typer.Option(help="category: none is on both sides; task: they may be.")
    ] = "category",
    seed: Seed = 0,
    official: Annotated[
        bool, typer.Option(help="Keep the split that comes with the pool, if there is one.")
    ] = True,
    lists_only: Annotated[
        bool, typer.Option("--lists-only", help="Write the task ids only, not the pools.")
    ] = False,
    overwrite: Overwrite = False,
) -> None:
    """Hold out a part of a pool: lists of task ids, and two pools in our own form."""
    from engine.pools import open_pool
    from engine.pools.splits import split_pool as divide
    from engine.pools.splits import write_split

    opened = open_pool(pool, pool_options(format_name, column, None, subset))
    done = divide(opened, by=by, share=share, seed=seed, official=official)
    write_split(
        opened,
        done,
        folder,
        lists_only=lists_only,
        overwrite=overwrite,
        inputs=[pool, *opened.files],
    )
    typer.echo(f"{folder}: {len(done.train):,} tasks to train on, {len(done.test):,} held out")
    typer.echo(f"chosen by: {done.origin}")


@app.command()
def show(
    pool: Spec,
    task_id: Annotated[str | None, typer.Argument(help="The task.", show_default="first")] = None,
    format_name: FormatName = None,
    column: ColumnNames = None,
    split: SplitName = None,
    subset: SubsetName = None,
    instance: Annotated[int, typer.Option(min=1, help="Number of the instance.")] = 1,
    prompt: Annotated[
        bool, typer.Option("--prompt", help="Render the instance's prompt, and nothing else.")
    ] = False,
    model: ModelName = None,
    trust_remote_code: TrustRemoteCode = False,
    max_model_len: MaxModelLen = 2048,
    max_output_tokens: Annotated[int, typer.Option(min=1, help="Longest output.")] = 32,
    as_json: Annotated[bool, typer.Option("--json", help="Print the task as JSON.")] = False,
) -> None:
    """Show a task, or the prompt that the model gets of it."""
    from engine.errors import InputError
    from engine.pools import open_pool
    from engine.pools.describe import describe_task, render_prompt
    from engine.protocol.score_config import ScoreConfig

    opened = open_pool(pool, pool_options(format_name, column, split, subset))
    task = opened.find(task_id)
    if not prompt:
        if instance != 1:
            raise InputError("goes with --prompt", field="--instance")
        typer.echo(task.model_dump_json(indent=2) if as_json else describe_task(task))
        return
    config = ScoreConfig(max_output_tokens=max_output_tokens)
    # Without a model nothing is known of the context, so nothing is left out for it.
    length = max_model_len if model is not None else 1 << 60
    _, builder = _builder(model, config, length, trust_remote_code)
    typer.echo(render_prompt(task, instance, config, builder))
