"""`jostle score`: the measures of every task of a pool."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.client import ApiKey, ChosenEngine, EngineModel, EngineModelLen, OwnUrl
from cli.pool import (
    ColumnNames,
    FormatName,
    MaxInstances,
    Spec,
    SplitName,
    SubsetName,
    TrustRemoteCode,
    pool_options,
)

if TYPE_CHECKING:
    from engine.pools.lazy import LazyPool
    from engine.protocol.score_config import ScoreConfig


ConfigFile = Annotated[
    Path | None,
    typer.Option(help="TOML file with the design, prompt and perturbation; options win."),
]


def score(
    pool: Spec,
    output: Annotated[Path, typer.Option("-o", "--output", help="A .parquet file.")],
    url: OwnUrl = None,
    api_key: ApiKey = None,
    model: EngineModel = None,
    max_model_len: EngineModelLen = None,
    trust_remote_code: TrustRemoteCode = False,
    config: ConfigFile = None,
    instances: Annotated[
        int | None, typer.Option(min=1, help="Instances per task, n.", show_default="10")
    ] = None,
    perturbations: Annotated[
        int | None, typer.Option(min=1, help="Perturbed prompts, k.", show_default="10")
    ] = None,
    instances_per_perturbation: Annotated[
        int | None,
        typer.Option(
            min=1, help="Instances that each perturbed prompt meets, r.", show_default="all"
        ),
    ] = None,
    design: Annotated[
        str | None,
        typer.Option(metavar="auto", help="Choose n, k and r for --budget."),
    ] = None,
    budget: Annotated[
        int | None, typer.Option(min=1, help="Tokens that --design auto lets the engine compute.")
    ] = None,
    earlier: Annotated[
        Path | None,
        typer.Option(
            help="Pairs of an earlier scoring, whose variance components it goes by.",
            show_default="typical ones",
        ),
    ] = None,
    max_output_tokens: Annotated[
        int | None, typer.Option(min=1, help="Longest output.", show_default="32")
    ] = None,
    gold: Annotated[bool, typer.Option("--gold", help="Score gold outputs.")] = False,
    measure: Annotated[
        str | None,
        typer.Option(
            help="Asked on top of prompt_uncertainty, such as output_disagreement or label_bald.",
            show_default="prompt_uncertainty",
        ),
    ] = None,
    samples: Annotated[
        int | None,
        typer.Option(min=1, help="Outputs sampled per prompt, m.", show_default="5"),
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(min=0, help="Of these samples.", show_default="1")
    ] = None,
    top_p: Annotated[
        float | None, typer.Option(min=0, max=1, help="Of these samples.", show_default="1")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of every draw.", show_default="0")] = None,
    format_name: FormatName = None,
    column: ColumnNames = None,
    split: SplitName = None,
    subset: SubsetName = None,
    max_instances: MaxInstances = None,
    skip_faulty: Annotated[
        bool,
        typer.Option("--skip-faulty", help="Leave out what cannot be read or scored, and list it."),
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Start anew, replacing what is there.")
    ] = False,
) -> None:
    """Score a pool; the same command again goes on where it broke off.

    Example: jostle score tasks/ -o scores.parquet --instances 10 --perturbations 10
    """
    from rich.console import Console

    from engine.pools import open_pool
    from engine.pools.checks import LeftOut, count_records
    from engine.questions.question_registry import find_question
    from engine.variance.rounding_noise import noise_in_words
    from training.commands.launch import EngineFiles
    from training.config.score_file import read_score_config
    from training.report.progress_lines import note, open_progress
    from training.run.summary import uncertainty_in_words
    from training.tables.pool_scoring import ScoreFiles, score_pool, survey_pool

    files = ScoreFiles(output)
    asked = read_score_config(
        config,
        {
            "n_instances": instances,
            "n_perturbations": perturbations,
            "instances_per_perturbation": instances_per_perturbation,
            "max_output_tokens": max_output_tokens,
            "reference": "gold" if gold else None,
            "measure": measure,
            "seed": seed,
        },
        {"n_samples": samples, "temperature": temperature, "top_p": top_p},
    )
    opened = open_pool(
        pool,
        pool_options(format_name, column, split, subset, max_instances, asked.seed),
        LeftOut() if skip_faulty else None,
    )
    engine = ChosenEngine(url, api_key, model, max_model_len, trust_remote_code)
    choosing = design is not None or budget is not None or earlier is not None
    with contextlib.ExitStack() as stack:
        inputs = (pool, *opened.files, config, earlier)
        stack.enter_context(files.claim(overwrite=overwrite, inputs=inputs))
        if choosing:
            opened, asked, words = _choose(design, budget, earlier, opened, asked, engine)
            note(words)
        else:
            engine.check(asked.prompt)
        survey = survey_pool(opened, asked)
        n_tasks = survey.tasks.height
        sampled = f", {survey.n_samples:,} samples" if survey.n_samples else ""
        note(f"{n_tasks:,} tasks, {survey.n_pairs:,} pairs{sampled}")
        progress = stack.enter_context(open_progress(Console(stderr=True)))
        where = EngineFiles(files.engine_log, files.paraphrases)
        client = stack.enter_context(engine.open(where, progress))
        exactness = client.weights().served.exactness
        progress.open("score", n_tasks, "tasks")
        started = time.monotonic()
        table = score_pool(
            opened,
            survey,
            client,
            asked,
            files,
            on_score=lambda done, name: progress.advance(done, detail=name),
            skip_faulty=skip_faulty,
        )
        progress.done("score", time.monotonic() - started, f"{table.height:,} tasks")
    typer.echo(f"{output}: {uncertainty_in_words(table)}")
    typer.echo(f"{files.pairs}: their pairs")
    if question := find_question(asked):
        values, title = table[question.name].drop_nulls(), question.name.replace("_", " ")
        told = f"mean {title} {values.to_numpy().mean():.4f}" if values.len() else f"no {title}"
        typer.echo(f"{files.questions[question.name]}: {told}")
    if left_out := n_tasks - table.height + count_records(opened.faults.found):
        typer.echo(f"{files.skipped}: {left_out:,} record(s) left out, and why")
    for line in filter(None, (exactness, noise_in_words(table))):
        typer.echo(line)


def _choose(
    design: str | None,
    budget: int | None,
    earlier: Path | None,
    pool: LazyPool,
    config: ScoreConfig,
    engine: ChosenEngine,
) -> tuple[LazyPool, ScoreConfig, str]:
    """The pool without what cannot be planned, the config with the chosen design, and in words."""
    from engine.errors import InputError
    from engine.questions.question_registry import find_question

    if design != "auto" or budget is None:
        raise InputError("--design auto and --budget TOKENS go together", field="--design")
    if find_question(config):
        problem = f"does not count what {config.measure} takes on top; give n and k instead"
        raise InputError(problem, field="--design")
    from engine.design.choose import design_for_pool
    from engine.design.ranking_columns import components_of_pairs
    from engine.pools.checks import LeftOut
    from engine.questions.pair_plan import plan_task
    from engine.variance.components import TYPICAL
    from training.tables.table_files import read_table

    relative = TYPICAL if earlier is None else components_of_pairs(read_table(earlier), earlier)
    builder = engine.builder(config.prompt)
    if isinstance(pool.faults, LeftOut):
        pool = pool.where(lambda task: plan_task(task, config, builder))
    counted = config.with_second_readings(engine.dtype())
    best = design_for_pool(pool, counted, builder, budget, relative)
    words = (
        f"{best.in_words()}, about {best.tokens:,.0f} computed tokens; expected standard error "
        f"of prompt uncertainty {best.relative_error:.0%} of its value"
    )
    return pool, best.applied(config), words
