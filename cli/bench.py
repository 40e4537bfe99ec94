"""`jostle bench`: how fast an engine is, with a pool or with tasks made up."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.client import (
    AdminKey,
    ApiKey,
    ChosenEngine,
    EngineModel,
    EngineModelLen,
    OwnUrl,
    connect,
)
from cli.pool import (
    ColumnNames,
    FormatName,
    MaxInstances,
    Overwrite,
    SplitName,
    SubsetName,
    TrustRemoteCode,
    pool_options,
)

if TYPE_CHECKING:
    from engine.bench.bench_result import BenchResult
    from engine.bench.workload import Load
    from engine.keys import ClientKeys
    from engine.prompts import PromptBuilder
    from training.commands.bench_command import BenchAsked

app = typer.Typer(
    help="Measure how fast an engine is, one of its own or a running one.", no_args_is_help=True
)

HELP = {
    "logprobs": "Given pairs: gold outputs under every prompt of the design.",
    "uncertainty": "Prompt uncertainty of tasks, the reference outputs generated.",
    "samples": "The same, with --samples outputs sampled under every prompt.",
    "mixed": "Requests of these three kinds by turns, each told apart.",
    "reload": "Given pairs while weights are loaded again and again.",
}


def bench(
    context: typer.Context,
    vllm_flags: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[-- VLLM_FLAGS...]", help="Of an engine that is started.", show_default=False
        ),
    ] = None,
    output: Annotated[
        Path, typer.Option("-o", "--output", help="A .json file, for jostle bench compare.")
    ] = Path("bench.json"),
    picture: Annotated[
        Path | None,
        typer.Option(help="A .png or .svg: throughput against latency.", show_default="none"),
    ] = None,
    url: OwnUrl = None,
    api_key: ApiKey = None,
    admin_key: AdminKey = None,
    model: EngineModel = None,
    max_model_len: EngineModelLen = None,
    trust_remote_code: TrustRemoteCode = False,
    pool: Annotated[
        str | None,
        typer.Option(help="Tasks to ask; see jostle pool stats.", show_default="tasks made up"),
    ] = None,
    estimate: Annotated[
        str | None,
        typer.Option(
            metavar="POOL",
            help="Measure on tasks of this pool, and tell how long a scoring by this design, a "
            "race and a run of all of it take.",
        ),
    ] = None,
    prompt_tokens: Annotated[
        int | None, typer.Option(min=32, help="Of tasks made up.", show_default="365")
    ] = None,
    output_tokens: Annotated[
        int | None,
        typer.Option(
            min=1, help="Longest output.", show_default="12 of tasks made up; 32 of a pool"
        ),
    ] = None,
    instances: Annotated[
        int, typer.Option("-n", "--instances", min=1, help="Instances of a task, n.")
    ] = 10,
    perturbations: Annotated[
        int, typer.Option("-k", "--perturbations", min=1, help="Perturbed prompts, k.")
    ] = 10,
    samples: Annotated[
        int | None, typer.Option(min=1, help="Samples under every prompt, m.", show_default="5")
    ] = None,
    concurrency: Annotated[
        str | None,
        typer.Option(
            metavar="N,N,...",
            help="Requests in flight at once.",
            show_default="1,8,64; 1,4 where requests are tasks; with --estimate as scoring does",
        ),
    ] = None,
    request_rate: Annotated[
        str | None,
        typer.Option(
            metavar="R,R,...",
            help="Instead: requests sent a second, whether others are answered or not.",
        ),
    ] = None,
    per_request: Annotated[int, typer.Option(min=1, help="Pairs, or tasks, of a request.")] = 1,
    seconds: Annotated[
        float | None, typer.Option(min=0.1, help="Of each measurement.", show_default="10")
    ] = None,
    pairs: Annotated[
        int | None, typer.Option(min=1, help="Instead: so many pairs in each.")
    ] = None,
    warm_up: Annotated[float, typer.Option(min=0, help="Seconds before each measurement.")] = 2,
    repeats: Annotated[int, typer.Option(min=1, max=100, help="Of each measurement.")] = 3,
    against: Annotated[
        str | None,
        typer.Option(
            metavar="stock", help="The same pairs through vLLM's own route, by turns (logprobs)."
        ),
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            help="A published folder that is loaded by turns with what is live (reload).",
            show_default="a copy of the model; needed with --url",
        ),
    ] = None,
    reload_every: Annotated[
        float | None,
        typer.Option(min=0, help="Seconds between two loads (reload).", show_default="2"),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of every draw.")] = 0,
    format_name: FormatName = None,
    column: ColumnNames = None,
    split: SplitName = None,
    subset: SubsetName = None,
    max_instances: MaxInstances = None,
    overwrite: Overwrite = False,
) -> None:
    """Measured by --seconds or --pairs, as often as --repeats says, loads and ways by turns."""
    from engine.bench.bench_calls import STOCK
    from engine.bench.workload import Shape, Timing, WorkloadName
    from engine.errors import InputError
    from engine.files import check_output
    from engine.keys import client_keys
    from engine.pools import open_pool
    from engine.protocol.score_config import SamplingConfig, ScoreConfig
    from training.commands.bench_command import BenchAsked
    from training.report.charts.picture import PICTURES

    name: WorkloadName = context.info_name  # type: ignore[assignment]
    of_tasks = name in ("uncertainty", "samples")
    source = estimate or pool
    for wrong, problem, field in (
        (output.suffix != ".json", "the output's name must end in .json", "--output"),
        (picture and picture.suffix not in PICTURES, "must end in .png or .svg", "--picture"),
        (estimate and pool, "names the pool; --pool is of no use beside it", "--estimate"),
        (estimate and not of_tasks, "goes with uncertainty or samples", "--estimate"),
        (source and prompt_tokens, "goes with tasks made up, not with a pool", "--prompt-tokens"),
        (against not in (None, STOCK), f"can be {STOCK}", "--against"),
        (against and name != "logprobs", "goes with logprobs", "--against"),
        (samples and name not in ("samples", "mixed"), "goes with samples or mixed", "--samples"),
        (concurrency and request_rate, "goes without --concurrency", "--request-rate"),
        (seconds and pairs, "goes without --seconds", "--pairs"),
        (checkpoint and name != "reload", "goes with reload", "--checkpoint"),
        (reload_every is not None and name != "reload", "goes with reload", "--reload-every"),
        (name == "reload" and url and not checkpoint, "is needed with --url", "--checkpoint"),
        (url and vllm_flags, "goes with an engine that is started", "VLLM_FLAGS"),
    ):
        if wrong:
            raise InputError(problem, field=field)
    options = pool_options(format_name, column, split, subset, max_instances, seed)
    read = [*open_pool(source, options).files] if source else []
    read += [str(each) for each in (source, checkpoint) if each]
    for path in filter(None, (output, picture)):
        check_output(path, overwrite=overwrite, inputs=read)
    usual = None if estimate else "1,4" if of_tasks else "1,8,64"
    shape = Shape(prompt_tokens=prompt_tokens or 365, output_tokens=output_tokens or 12)
    asked = BenchAsked(
        name=name,
        config=ScoreConfig(
            n_instances=instances,
            n_perturbations=perturbations,
            max_output_tokens=output_tokens or (32 if source else shape.output_tokens),
            sampling=SamplingConfig(n_samples=samples or 5),
            measure="output_disagreement" if name == "samples" else "prompt_uncertainty",
            seed=seed,
        ),
        loads=_loads(concurrency or usual, request_rate),
        timing=Timing(seconds=seconds or 10, pairs=pairs, warm_up=warm_up, repeats=repeats),
        shape=shape,
        pool=source,
        options=options,
        per_request=per_request,
        reload_every=2 if reload_every is None else reload_every,
        against_stock=against == STOCK,
        estimates=estimate is not None,
        checkpoint=checkpoint,
    )
    engine = ChosenEngine(url, api_key, model, max_model_len, trust_remote_code)
    keys = client_keys(os.environ, api_key, admin_key)
    log = output.with_suffix(".engine.log")
    _tell(_measured(asked, engine, keys, tuple(vllm_flags or ()), log), output, picture)


def _measured(
    asked: BenchAsked, engine: ChosenEngine, keys: ClientKeys, flags: tuple[str, ...], log: Path
) -> BenchResult:
    """All measurements, and how long the whole pool takes where that is asked."""
    from rich.console import Console

    from training.commands.bench_command import Bench, BenchEngine, reload_targets, started_engine
    from training.report.progress_lines import open_progress

    def builder() -> PromptBuilder:
        return engine.builder(asked.config.prompt)

    model = engine.started if engine.url is None or engine.model else None
    location = engine.location if model else ""
    with contextlib.ExitStack() as stack:
        if engine.url is None:
            laid_out = Bench(asked, builder)
            progress = stack.enter_context(open_progress(Console(stderr=True)))
            own = started_engine(asked, engine.started, location, flags, log, progress)
            at = stack.enter_context(own)
        else:
            with connect(engine.url, engine.api_key) as client:
                state = client.weights()
            engine.check(asked.config.prompt)
            laid_out = Bench(asked, builder, state.served.tokenizer)
            targets = reload_targets(asked.checkpoint, state) if asked.checkpoint else ()
            at = BenchEngine(engine.url, engine.url, state, checkpoints=targets)
            progress = stack.enter_context(open_progress(Console(stderr=True)))
        result = laid_out.run(at, keys, progress)
    if not asked.estimates:
        return result
    return result.model_copy(update={"estimate": laid_out.times(result, model, location)})


def _tell(result: BenchResult, output: Path, picture: Path | None) -> None:
    """Write a result, print it, and draw it if there is to be a picture."""
    from rich.console import Console

    from engine.files import write_bytes
    from training.report.bench_report import bench_tables, describe_bench, draw_bench

    write_bytes(output, result.model_dump_json(indent=1).encode() + b"\n")
    shown = Console()
    for table in bench_tables(result):
        shown.print(table)
    for line in (*describe_bench(result), *(result.estimate.in_words() if result.estimate else ())):
        typer.echo(line)
    typer.echo(f"{output}: {result.machine}; {result.weights.served.model}")
    if picture:
        draw_bench(result, picture)
        typer.echo(picture)


for _name, _help in HELP.items():
    app.command(_name, help=_help)(bench)


@app.command()
def compare(
    first: Annotated[Path, typer.Argument(help="What jostle bench wrote.")],
    second: Annotated[Path, typer.Argument(help="The same of another engine.")],
) -> None:
    """Print the ratios of the second to the first, with intervals; unlike workloads are refused."""
    from rich.console import Console

    from engine.bench.bench_comparison import compare_benches, conditions
    from engine.bench.bench_result import read_bench
    from training.report.bench_report import comparison_table

    before, after = read_bench(first), read_bench(second)
    found = compare_benches(before, after, second)
    Console().print(comparison_table(found, (first.stem, second.stem)))
    for line in conditions(before, after):
        typer.echo(line)


def _loads(concurrency: str | None, rates: str | None) -> tuple[Load, ...] | None:
    """The loads of an option's list; none of none.

    Raises:
        InputError: If it is none.
    """
    from pydantic import ValidationError

    from engine.bench.workload import Load
    from engine.errors import InputError

    field, given = ("concurrency", concurrency) if rates is None else ("rate", rates)
    if given is None:
        return None
    option = "--concurrency" if rates is None else "--request-rate"
    try:
        loads = tuple(Load.model_validate({field: part.strip()}) for part in given.split(","))
    except ValidationError as error:
        problem = f"expected numbers above 0 with commas between them, found {given!r}"
        raise InputError(problem, field=option) from error
    return tuple(dict.fromkeys(loads))
