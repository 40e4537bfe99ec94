"""`jostle race`: the top N of a pool within a token budget."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.client import ApiKey, connect
from cli.pool import Spec, _options


def race(
    pool: Spec,
    output: Annotated[Path, typer.Option("-o", "--output", help="Task ids, one per line.")],
    url: Annotated[str, typer.Option(help="A running engine.")],
    n_tasks: Annotated[int, typer.Option("-n", "--tasks", min=1, help="How many to take.")],
    budget: Annotated[
        int, typer.Option(min=1, help="Tokens that the engine may compute, at most.")
    ],
    model: Annotated[
        str, typer.Option(help="The model it serves, for its tokenizer.")
    ] = "smollm2-135m",
    max_model_len: Annotated[int, typer.Option(min=64, help="Its context, in tokens.")] = 2048,
    api_key: ApiKey = None,
    max_output_tokens: Annotated[int, typer.Option(min=1, help="Longest output.")] = 32,
    by_category: Annotated[
        bool, typer.Option("--by-category", help="The top N of every category.")
    ] = False,
    prefixes_kept: Annotated[
        bool,
        typer.Option("--prefixes-kept", help="The engine's cache holds the prompts of all tasks."),
    ] = False,
    seed: Annotated[int, typer.Option(help="Of every draw.")] = 0,
) -> None:
    """Find the most uncertain tasks, spending pairs where membership is still open."""
    from rich.console import Console
    from transformers import AutoTokenizer

    from engine.config import ScoreConfig
    from engine.design.entries import RaceConfig
    from engine.design.racing import race_pool
    from engine.files import write_bytes, write_json
    from engine.models import resolve_model
    from engine.pools import open_pool
    from engine.prompts import PromptBuilder

    config = ScoreConfig(max_output_tokens=max_output_tokens, seed=seed)
    tasks = list(open_pool(pool, _options(None, None, None, None, None, seed)))
    tokenizer = AutoTokenizer.from_pretrained(str(resolve_model(model)))
    console = Console(stderr=True)
    with connect(url, api_key) as client:
        result = race_pool(
            client,
            tasks,
            config,
            PromptBuilder(tokenizer, config.prompt, max_model_len),
            RaceConfig(n_select=n_tasks, budget=budget, prefixes_kept=prefixes_kept),
            by_category=by_category,
            on_batch=lambda now: console.print(
                f"{now.tokens:,.0f} of {budget:,} tokens", highlight=False
            ),
        )
    reasons = output.with_suffix(".race.json")
    write_json(reasons, result.model_dump(mode="json"))
    write_bytes(output, "".join(f"{task_id}\n" for task_id in result.selected).encode())
    pairs = sum(standing.pairs for standing in result.standings)
    typer.echo(
        f"{output}: {len(result.selected):,} of {len(tasks):,} tasks after {pairs:,} pairs; "
        f"{len(result.open):,} memberships are open"
    )
    typer.echo(f"{reasons}: pairs, interval and membership of every task")
