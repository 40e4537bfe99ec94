"""Whether `jostle bench` holds: the same command twice, and its estimate against a real scoring.

    python -m benchmarks.bench_trust [--parts twice estimate scoring] [--seconds 12] [--keep FOLDER]

Every command is that of the README, asked of a server that runs. The pool is the real tasks if they
are there, else the bundled ones, by a small design. With `--keep` what is in the folder is not
measured again, so that the parts can be run one by one.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import BaseModel

from benchmarks.common.pairs import MAX_MODEL_LEN, REAL_TASKS
from benchmarks.common.result_file import RESULTS, ResultFile
from benchmarks.common.turns import keep_for
from benchmarks.peers.contenders import Server
from benchmarks.scoring import warm_up
from engine.bench.bench_comparison import compare_benches
from engine.bench.bench_result import BenchResult, figure, read_bench
from engine.bench.pool_times import PoolTimes
from engine.weights.models import resolve_model

PARTS = ("twice", "estimate", "scoring")
COMPARED = "pairs/s"


class Scored(BaseModel):
    """A real scoring.

    Attributes:
        seconds: Of the whole command.
    """

    seconds: float


class Trial:
    """The commands, each once.

    Args:
        folder: Keeps what they write.
        design: Options of the design.
        seconds: Of each measurement.
        concurrency: Requests in flight in those that are taken twice.
    """

    def __init__(
        self,
        model: str,
        folder: Path,
        pool: str,
        design: Sequence[str],
        *,
        seconds: float,
        concurrency: str,
    ) -> None:
        flags = (f"--max-model-len={MAX_MODEL_LEN}",)
        self._server = Server("jostle", model, folder, flags, eager=True)
        self._url: str | None = None
        self._folder, self._pool, self._design = folder, pool, tuple(design)
        self._seconds, self._loads = f"--seconds={seconds:g}", f"--concurrency={concurrency}"

    @contextlib.contextmanager
    def running(self) -> Iterator[Trial]:
        """Stops the server in the end, if any command needed it."""
        try:
            yield self
        finally:
            self._server.stop()

    def twice(self) -> tuple[BenchResult, BenchResult]:
        """The same measurement two times."""
        names = ("logprobs-1", "logprobs-2")
        first, second = (self._bench(name, "logprobs", self._loads) for name in names)
        return first, second

    def estimated(self) -> PoolTimes:
        """What a scoring of the pool is told to take."""
        asked = ("uncertainty", "--estimate", self._pool, *self._design)
        times = self._bench("estimate", *asked).estimate
        assert times is not None
        return times

    def scored(self) -> Scored:
        """The scoring."""
        file, output = self._folder / "scoring.json", self._folder / "scores.parquet"
        if not file.exists():
            arguments = ["score", self._pool, "--overwrite", "-o", str(output), *self._design]
            file.write_text(Scored(seconds=self._command(arguments)).model_dump_json())
        return Scored.model_validate_json(file.read_bytes())

    def _bench(self, name: str, *asked: str) -> BenchResult:
        output = self._folder / f"{name}.json"
        if not output.exists():
            picture = str(output.with_suffix(".png"))
            self._command(["bench", *asked, self._seconds, "-o", str(output), "--picture", picture])
        return read_bench(output)

    def _command(self, arguments: list[str]) -> float:
        """Runs a command against the server; its seconds."""
        if self._url is None:
            self._server.start()
            warm_up(self._server.wait())
            self._url = self._server.url
        started = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "cli.main", *arguments, "--url", self._url], check=True
        )
        return time.perf_counter() - started


def show_twice(first: BenchResult, second: BenchResult, result: ResultFile) -> dict[str, float]:
    """Rates of both, with the interval of the first, and their ratios."""
    rows, figures = [], {}
    for found in compare_benches(first, second):
        if found.name != COMPARED:
            continue
        rate = figure(first.of(found.way, found.load), found.name)
        assert rate is not None
        assert rate.margin is not None
        ratio, moved = found.ratio, abs(found.second - found.first)
        rows.append(
            [
                f"{found.load}",
                f"{found.first:.2f}",
                f"{rate.margin:.2f}",
                f"{found.second:.2f}",
                f"{ratio.value:.3f}",
                f"{ratio.low:.3f} to {ratio.high:.3f}",
                "yes" if moved <= rate.margin else "no",
            ]
        )
        figures[f"second over first, {found.load}"] = ratio.value
    result.table(
        "jostle bench logprobs, twice: pairs/s",
        ["load", "first", "give or take", "second", "ratio", "its interval", "within"],
        rows,
    )
    return figures


def show_estimate(times: PoolTimes, scored: Scored, result: ResultFile) -> dict[str, float]:
    """What was told and what it took."""
    margin = "" if times.margin is None else f", give or take {times.margin:.0%}"
    ratio = times.scoring / scored.seconds
    result.print(
        f"scoring of {times.tasks} tasks, {times.pairs} pairs: told {times.scoring:.0f} s{margin}; "
        f"took {scored.seconds:.0f} s; told / took {ratio:.2f}"
    )
    return {"told seconds": times.scoring, "seconds": scored.seconds, "told / took": ratio}


def main() -> None:
    """Runs what is asked and prints what is known of all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--pool", default=str(REAL_TASKS) if REAL_TASKS.is_dir() else "bundled")
    parser.add_argument("--instances", type=int, default=4)
    parser.add_argument("--perturbations", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=12)
    parser.add_argument("--concurrency", default="1,8,64")
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=PARTS)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--results", type=Path, default=RESULTS)
    chosen = parser.parse_args()
    folder = chosen.keep or Path(tempfile.mkdtemp(prefix="jostle-benchmark-"))
    settings = ("model", "pool", "instances", "perturbations", "seconds", "concurrency")
    keep_for(folder, {name: getattr(chosen, name) for name in settings})
    design = (f"--instances={chosen.instances}", f"--perturbations={chosen.perturbations}")
    model = str(resolve_model(chosen.model))
    commands = Trial(
        model,
        folder,
        chosen.pool,
        design,
        seconds=chosen.seconds,
        concurrency=chosen.concurrency,
    )
    with commands.running() as trial:
        made = {
            "twice": trial.twice,
            "estimate": trial.estimated,
            "scoring": trial.scored,
        }
        for part in chosen.parts:
            made[part]()
        if set(chosen.parts) != set(PARTS):
            return
        first_second, times, scored = trial.twice(), trial.estimated(), trial.scored()
    result = ResultFile("bench_trust", chosen.results)
    figures = show_twice(*first_second, result)
    result.save(figures | show_estimate(times, scored, result), chosen)


if __name__ == "__main__":
    main()
