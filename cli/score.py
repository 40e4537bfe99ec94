"""`jostle score`: the measures of every task of a pool."""

from __future__ import annotations

import contextlib
import time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.client import (
    ApiKey,
    EngineModel,
    EngineModelLen,
    OwnUrl,
    builder_at,
    dtype_at,
    engine_at,
    engine_model,
)
from cli.pool import (
    ColumnNames,
    FormatName,
    MaxInstances,
    Spec,
    SplitName,
    SubsetName,
    TrustRemoteCode,
    _builder,
    _options,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.pools.lazy import LazyPool
    from engine.prompts import PromptBuilder
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
    from engine.weights.models import BUNDLED_MODEL, resolve_model
    from training.commands.launch import EngineFiles
    from training.report.progress_lines import note, open_progress
    from training.run.summary import uncertainty_in_words
    from training.tables.pool_scoring import ScoreFiles, score_pool, survey_pool

    files = ScoreFiles(output)
    asked = _config(
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
        _options(format_name, column, split, subset, max_instances, asked.seed),
        LeftOut() if skip_faulty else None,
    )
    served = engine_model(model, max_model_len, trust_remote_code=trust_remote_code)
    choosing = design is not None or budget is not None or earlier is not None

    @cache
    def location() -> str:
        return "" if url is not None else str(resolve_model(served.name))

    def builder() -> PromptBuilder:
        if url is None:
            return _builder(location(), asked, served.max_model_len, trust_remote_code)[1]
        return builder_at(
            url, api_key, asked.prompt, model, max_model_len, trust_remote_code=trust_remote_code
        )

    console = Console(stderr=True)
    with contextlib.ExitStack() as stack:
        inputs = (pool, *opened.files, config, earlier)
        stack.enter_context(files.claim(overwrite=overwrite, inputs=inputs))
        if url is not None and not choosing and (model is not None or max_model_len is not None):
            builder()  # what is named must be what is served
        if served.name != BUNDLED_MODEL:  # which may have to be downloaded or converted
            location()
        if choosing:
            dtype = dtype_at(url, api_key)
            opened, asked, words = _choose(design, budget, earlier, opened, asked, builder, dtype)
            note(words)
        survey = survey_pool(opened, asked)
        n_tasks = survey.tasks.height
        sampled = f", {survey.n_samples:,} samples" if survey.n_samples else ""
        note(f"{n_tasks:,} tasks, {survey.n_pairs:,} pairs{sampled}")
        resolved = location()
        progress = stack.enter_context(open_progress(console))
        where = EngineFiles(files.engine_log, files.paraphrases)
        client = stack.enter_context(engine_at(url, api_key, resolved, served, where, progress))
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


def _config(file: Path | None, options: dict[str, Any], sampling: dict[str, Any]) -> ScoreConfig:
    """The config of a file with the options that were given put in.

    Raises:
        InputError: If a value is wrong, or samples are described and none are drawn.
    """
    from engine.errors import InputError
    from engine.protocol.score_config import ScoreConfig
    from engine.questions.question_registry import QUESTIONS, find_question
    from engine.validation import validated
    from training.config.toml_file import put_template, read_toml

    values: dict[str, Any] = {}
    if file is not None:
        values = read_toml(file)
        put_template(values.get("prompt"), file.parent, file, "prompt")
    values |= {name: value for name, value in options.items() if value is not None}
    if given := {name: value for name, value in sampling.items() if value is not None}:
        before = values.get("sampling", {})
        values["sampling"] = (before if isinstance(before, dict) else {}) | given
    config = validated(ScoreConfig, values, file)
    question = find_question(config, file)
    if given and not (question and question.draws):
        option = {"n_samples": "--samples", "temperature": "--temperature", "top_p": "--top-p"}
        names = " or ".join(name for name, each in QUESTIONS.items() if each.draws)
        raise InputError(f"goes with --measure {names}", field=option[next(iter(given))])
    return config


def _choose(
    design: str | None,
    budget: int | None,
    earlier: Path | None,
    pool: LazyPool,
    config: ScoreConfig,
    make_builder: Callable[[], PromptBuilder],
    dtype: str,
) -> tuple[LazyPool, ScoreConfig, str]:
    """The pool without what cannot be planned, the config with the chosen design, and in words."""
    from engine.errors import InputError
    from engine.questions.question_registry import find_question

    if design != "auto" or budget is None:
        raise InputError("--design auto and --budget TOKENS go together", field="--design")
    if find_question(config):
        problem = f"does not count what {config.measure} takes on top; give n and k instead"
        raise InputError(problem, field="--design")
    from cli.select import read_table
    from engine.design.choose import design_for_pool
    from engine.design.ranking_columns import components_of_pairs
    from engine.pools.checks import LeftOut
    from engine.questions.pair_plan import plan_task
    from engine.variance.components import TYPICAL

    relative = TYPICAL if earlier is None else components_of_pairs(read_table(earlier), earlier)
    builder = make_builder()
    if isinstance(pool.faults, LeftOut):
        pool = pool.where(lambda task: plan_task(task, config, builder))
    counted = config.with_second_readings(dtype)
    best = design_for_pool(pool, counted, builder, budget, relative)
    words = (
        f"{best.in_words()}, about {best.tokens:,.0f} computed tokens; expected standard error "
        f"of prompt uncertainty {best.relative_error:.0%} of its value"
    )
    return pool, best.applied(config), words
