"""`jostle eval` and `jostle judge`: how good the answers of a model are."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from cli.client import ApiKey, EngineUrl, builder_at, connect
from cli.pool import Overwrite, SkipFaulty, TrustRemoteCode


def evaluate(
    pool: Annotated[str, typer.Argument(help="See jostle pool stats.")],
    model: Annotated[
        str | None,
        typer.Option(
            help="Where the tokenizer of the served model lies.",
            show_default="what the engine names",
        ),
    ] = None,
    url: EngineUrl = "http://127.0.0.1:8000",
    api_key: ApiKey = None,
    output: Annotated[
        Path | None, typer.Option(help="Folder for evaluation.json and outputs.jsonl.")
    ] = None,
    instances: Annotated[int, typer.Option(min=1, help="Instances of each task.")] = 100,
    max_new_tokens: Annotated[int, typer.Option(min=1, max=4_096, help="Longest output.")] = 128,
    max_model_len: Annotated[
        int | None,
        typer.Option(min=64, help="Its context, in tokens.", show_default="the engine's"),
    ] = None,
    max_tasks: Annotated[
        int | None, typer.Option(min=1, help="The first so many tasks.", show_default="all")
    ] = None,
    gold: Annotated[bool, typer.Option("--gold", help="Score gold outputs as well.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of the instance sample.")] = 0,
    skip_faulty: SkipFaulty = False,
    config: Annotated[
        Path | None, typer.Option(help="TOML file as of jostle score, for what it says of prompts.")
    ] = None,
    trust_remote_code: TrustRemoteCode = False,
    overwrite: Overwrite = False,
) -> None:
    """Evaluate what an engine serves: ROUGE-L, exact match, perplexity of gold outputs."""
    from rich.console import Console

    from engine.files import check_folder, check_output
    from engine.pools import open_pool
    from engine.pools.checks import LeftOut
    from training.commands.single_step import EVALUATION_FILES, evaluate_engine
    from training.config.run_config import EvaluateConfig
    from training.config.score_file import read_score_config
    from training.report.display import evaluation_table
    from training.report.progress_lines import note, open_progress

    opened = open_pool(pool, faults=LeftOut() if skip_faulty else None)
    if output is not None:
        read = (pool, *opened.files, config)
        check_folder(output)
        for name in EVALUATION_FILES if output.exists() else ():
            check_output(output / name, overwrite=overwrite, inputs=read)
    asked = EvaluateConfig(
        instances_per_task=instances,
        max_new_tokens=max_new_tokens,
        seed=seed,
        gold_perplexity=gold,
    )
    prompt = read_score_config(config, {}, {}).prompt
    builder = builder_at(
        url, api_key, prompt, model, max_model_len, trust_remote_code=trust_remote_code
    )
    with (
        connect(url, api_key) as client,
        open_progress(Console(stderr=True)) as progress,
    ):
        started = time.monotonic()
        progress.open("evaluate", None, "tasks")
        found = evaluate_engine(
            client,
            opened,
            asked,
            builder,
            output,
            max_tasks=max_tasks,
            on_progress=progress.advance,
        )
        progress.done("evaluate", time.monotonic() - started, f"{len(found.tasks):,} tasks")
    for fault in opened.faults.found:
        note(f"left out: {fault}")
    Console().print(evaluation_table(found.weights_version, found))


def judge(
    left: Annotated[Path, typer.Argument(help="outputs.jsonl of one model.")],
    right: Annotated[Path, typer.Argument(help="outputs.jsonl of the other.")],
    url: Annotated[str, typer.Option(help="OpenAI-compatible endpoint, with /v1.")],
    model: Annotated[str, typer.Option(help="Name of the judge there.")],
    api_key: Annotated[
        str | None, typer.Option(envvar="JOSTLE_JUDGE_API_KEY", help="Key of the endpoint.")
    ] = None,
    journal: Annotated[
        Path, typer.Option(help="File of verdicts; started again, it goes on from it.")
    ] = Path("judge.jsonl"),
    at_once: Annotated[int, typer.Option(min=1, help="Requests under way together.")] = 8,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare two models' answers pair by pair, in both orders, by a judge model."""
    from rich.console import Console

    from engine.client.chat_client import ChatClient
    from engine.files import check_output
    from training.evaluation.judge import compare, read_outputs
    from training.report.progress_lines import open_progress

    check_output(journal, overwrite=True, inputs=(left, right))
    with (
        ChatClient(url, api_key, model=model, proxies=False) as asked,
        open_progress(Console(stderr=True)) as progress,
    ):
        started = time.monotonic()
        progress.open("judge", None, "verdicts")
        found = compare(
            read_outputs(left),
            read_outputs(right),
            asked,
            journal,
            at_once=at_once,
            on_progress=progress.advance,
        )
        progress.done("judge", time.monotonic() - started, "")
    if as_json:
        typer.echo(found.model_dump_json(indent=2))
        return
    typer.echo(
        f"{found.wins} wins, {found.losses} losses, {found.ties} ties of {found.pairs}"
        + ("" if found.win_rate is None else f": win rate {found.win_rate:.3f}")
    )
    typer.echo(
        f"{found.inconsistent} pairs went by position, {found.unclear} verdicts were unclear"
    )
