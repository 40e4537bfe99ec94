"""`jostle logprobs` on a file, against the same route asked with all pairs in one request.

    python -m benchmarks.pair_file [--pairs 2000] [--turns 2]

Short pairs, each turn and way its own, so that no cache knows them; the ways take turns on one
engine, and the least disturbed turn of each counts. The clock runs over the scoring alone.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from pathlib import Path

from engine.client import AsyncEngineClient, EngineClient
from engine.pools.checks import Faults
from engine.process.engine_process import EngineProcess
from engine.protocol.completions import Encoding, TextPair
from engine.weights.models import resolve_model
from training.pair_files.file_scoring import FileScoring, LogprobSettings
from training.pair_files.pair_columns import PairColumns
from training.pair_files.pair_file import PairFiles
from training.pair_files.scored_pairs import PairJournal

RESULTS = Path(__file__).parent / "results"
_THINGS = ("apple", "river", "engine", "teacher", "window", "music", "letter", "garden")


def make_pairs(n_pairs: int, seed: int) -> list[TextPair]:
    """Questions, each with four answers, sorted by their texts."""
    draw = random.Random(seed)
    pairs = []
    for number in range(n_pairs // 4):
        thing, other = draw.sample(_THINGS, 2)
        question = (
            f"Case {seed}-{number}: is a {thing} larger than a {other}? Say yes, no or perhaps."
        )
        pairs += [
            TextPair(prompt=question, completion=answer)
            for answer in (" yes", " no", " perhaps", " I do not know")
        ]
    return sorted(pairs, key=lambda pair: (pair.prompt, pair.completion))


def raw_seconds(url: str, pairs: list[TextPair]) -> float:
    """All in one request."""
    with EngineClient(url) as client:
        started = time.perf_counter()
        client.completion_logprobs(pairs)
        return time.perf_counter() - started


def file_seconds(url: str, pairs: list[TextPair], folder: Path) -> float:
    """As a file, its rows in no order."""
    rows = random.Random(0).sample(pairs, len(pairs))
    given = folder / "pairs.jsonl"
    given.write_text("".join(json.dumps(row.model_dump()) + "\n" for row in rows))
    files = PairFiles([str(given)], PairColumns())
    survey = files.survey(Faults(), typed=False)
    with EngineClient(url) as client:
        settings = LogprobSettings(
            weights=client.weights(),
            files=tuple(files.files),
            digest=survey.digest,
            columns=PairColumns(),
            encoding=Encoding(),
            tokens=False,
        )
    journal = PairJournal(folder / "journal.jsonl")
    journal.path.unlink(missing_ok=True)
    scoring = FileScoring(files, survey, settings, journal, skip_faulty=False)
    started = time.perf_counter()
    scoring.ask([lambda: AsyncEngineClient(url)])
    return time.perf_counter() - started


def main() -> None:
    """Takes turns, prints and writes the rates."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--pairs", type=int, default=2_000)
    parser.add_argument("--turns", type=int, default=2)
    chosen = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="jostle-benchmark-"))
    raw, file = [], []
    with EngineProcess.start(
        str(resolve_model(chosen.model)), weights_root=None, log_file=folder / "engine.log"
    ) as engine:
        engine.wait_ready()
        raw_seconds(engine.url, make_pairs(40, 99))
        for turn in range(chosen.turns):
            file.append(file_seconds(engine.url, make_pairs(chosen.pairs, 2 * turn), folder))
            raw.append(raw_seconds(engine.url, make_pairs(chosen.pairs, 2 * turn + 1)))
            print(f"turn {turn}: file {file[-1]:.1f} s, raw {raw[-1]:.1f} s", flush=True)
    lines = [
        f"{chosen.pairs:,} short pairs, pairs/s of the least disturbed of {chosen.turns} turns",
        f"one request      {_rates(chosen.pairs, raw)}",
        f"jostle logprobs  {_rates(chosen.pairs, file)}",
        f"ratio            {min(raw) / min(file):8.3f}",
    ]
    text = "\n".join(lines)
    print(text)
    (RESULTS / "pair_file.txt").write_text(text + "\n")


def _rates(n_pairs: int, seconds: list[float]) -> str:
    turns = ", ".join(f"{n_pairs / each:.1f}" for each in seconds)
    return f"{n_pairs / min(seconds):8.1f}   all turns: {turns}"


if __name__ == "__main__":
    main()
