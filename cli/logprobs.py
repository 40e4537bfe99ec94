"""`jostle logprobs`: log-probabilities of the completions in files."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.client import ApiKey, EngineModel, EngineModelLen, engines_at
from cli.pool import SplitName, SubsetName, TrustRemoteCode

if TYPE_CHECKING:
    from training.pair_files.corpus_perplexity import Perplexities

STANDARD_INPUT = "-"


def logprobs(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE...",
            help="Files (.jsonl, .json, .csv, .tsv, .parquet), folders of them, hub:DATASET, or - "
            "for standard input.",
        ),
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="A .parquet or .jsonl file: all rows, in order.")
    ],
    url: Annotated[
        list[str] | None,
        typer.Option(
            help="A running engine; repeat it for several.", show_default="starts one on --model"
        ),
    ] = None,
    api_key: ApiKey = None,
    model: EngineModel = None,
    max_model_len: EngineModelLen = None,
    trust_remote_code: TrustRemoteCode = False,
    column: Annotated[
        list[str] | None,
        typer.Option(
            "--column",
            metavar="ROLE=NAME",
            help="Which column is what; repeat it. Roles: prompt, completion (a text, or a list of "
            "them), messages. With completion alone, texts stand on their own.",
            show_default="prompt, completion or completions, messages",
        ),
    ] = None,
    split: SplitName = None,
    subset: SubsetName = None,
    stdin_format: Annotated[
        str, typer.Option("--stdin", help="What standard input holds: jsonl, csv, tsv or parquet.")
    ] = "jsonl",
    boundary: Annotated[
        str,
        typer.Option(
            help="joint: prompt and completion are encoded as one text and cut, as evaluation "
            "harnesses do; separate: each on its own."
        ),
    ] = "joint",
    special_tokens: Annotated[
        bool,
        typer.Option(
            "--special-tokens/--no-special-tokens",
            help="Begin prompts with the tokenizer's beginning of sequence, once.",
        ),
    ] = True,
    parse_special: Annotated[
        bool,
        typer.Option("--parse-special", help="Texts of special tokens in the files act as those."),
    ] = False,
    end_token: Annotated[
        bool,
        typer.Option("--end-token", help="Score the token that ends an answer behind each, too."),
    ] = False,
    tokens: Annotated[
        bool, typer.Option("--tokens", help="Add id, text and log-probability of each token.")
    ] = False,
    perplexity: Annotated[
        bool, typer.Option("--perplexity", help="Print the perplexity of all and of each file.")
    ] = False,
    group: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="With --perplexity, of each of its values, too."),
    ] = None,
    skip_faulty: Annotated[
        bool,
        typer.Option(
            "--skip-faulty", help="Leave out rows that cannot be read or scored, and list them."
        ),
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Start anew, replacing what is there.")
    ] = False,
) -> None:
    """Score completions after their prompts; the same command again goes on where it broke off.

    Each row of the output has the columns of the input and logprob (the sum over the completion's
    tokens), mean_logprob, n_tokens, n_prompt_tokens and is_greedy; lists of them where a row has a
    list of completions. A completion of nothing but white space counts as a fault.
    """
    from rich.console import Console

    from engine.errors import InputError
    from engine.pools.checks import Faults, IgnoredFaults
    from engine.pools.options import parse_columns
    from engine.protocol.completions import Encoding
    from engine.validation import validated
    from training.commands.launch import EngineFiles
    from training.pair_files.corpus_perplexity import Perplexities
    from training.pair_files.file_scoring import FileScoring, LogprobFiles, LogprobSettings
    from training.pair_files.pair_columns import PairColumns
    from training.pair_files.pair_file import PairFiles, files_read
    from training.pair_files.result_file import ResultFile
    from training.pair_files.result_writing import write_results
    from training.pair_files.scored_pairs import PairJournal
    from training.pair_files.standard_input import keep_standard_input
    from training.report.progress_lines import note, open_progress

    if group is not None and not perplexity:
        raise InputError("goes with --perplexity", field="--group")
    work = LogprobFiles(output)
    encoding = validated(
        Encoding,
        {
            "boundary": boundary,
            "add_special_tokens": special_tokens,
            "parse_special": parse_special,
            "add_eos_token": end_token,
        },
    )
    columns = parse_columns(column or (), PairColumns)
    console = Console(stderr=True)
    with contextlib.ExitStack() as stack:
        named = [each for each in files if each != STANDARD_INPUT]
        inputs = (*named, *files_read(named))
        stack.enter_context(work.claim(overwrite=overwrite, inputs=inputs))
        specs = [
            str(keep_standard_input(work, stdin_format)) if each == STANDARD_INPUT else each
            for each in files
        ]
        pairs = PairFiles(specs, columns, split, subset)
        typed = output.suffix == ".parquet"
        survey = pairs.survey(IgnoredFaults() if skip_faulty else Faults(), typed=typed)
        if group is not None and group not in survey.kept.names:
            raise InputError(f"no column {group!r}", file=", ".join(files), field="--group")
        results = ResultFile(output, survey, tokens=tokens)
        note(f"{survey.n_rows:,} rows, {survey.n_pairs:,} pairs")
        if pairs.rounded:
            note(f"nanoseconds are cut to microseconds in {', '.join(pairs.rounded)}")
        progress = stack.enter_context(open_progress(console))
        where = EngineFiles(work.engine_log, work.paraphrases)
        engines, weights = stack.enter_context(
            engines_at(
                url or [],
                api_key,
                model,
                max_model_len,
                where,
                progress,
                trust_remote_code=trust_remote_code,
            )
        )
        settings = LogprobSettings(
            weights=weights,
            files=tuple(specs),
            digest=survey.digest,
            columns=columns,
            encoding=encoding,
            tokens=tokens,
        )
        work.begin(settings)
        progress.open("score", survey.n_pairs, "pairs")
        started = time.monotonic()
        journal = PairJournal(work.journal)
        scoring = FileScoring(pairs, survey, settings, journal, skip_faulty=skip_faulty)
        scoring.ask(engines, progress.advance)
        progress.done("score", time.monotonic() - started, f"{survey.n_pairs:,} pairs")
        perplexities = Perplexities(group)
        written = write_results(
            pairs, survey, journal, results, work.skipped, perplexities, skip_faulty=skip_faulty
        )
        work.finish()
    mean = perplexities.total
    typer.echo(f"{output}: {written.rows:,} rows, {mean.n_pairs:,} pairs, {mean.n_tokens:,} tokens")
    if written.left_out:
        typer.echo(f"{work.skipped}: {written.left_out:,} record(s) left out, and why")
    if perplexity:
        _print(perplexities)
    if weights.served.exactness:
        typer.echo(weights.served.exactness)


def _print(perplexities: Perplexities) -> None:
    for kind, name, corpus in perplexities.rows():
        value = "no tokens" if corpus.perplexity is None else f"{corpus.perplexity:.4f}"
        what = kind if not name else f"{kind} {name}"
        typer.echo(
            f"perplexity {value}  {what}: {corpus.n_pairs:,} pairs, {corpus.n_tokens:,} tokens"
        )
