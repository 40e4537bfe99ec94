"""Tables and picture of a bench: all that was measured, 80 columns wide."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from engine.bench.bench_comparison import compare_benches, conditions
from engine.bench.bench_result import BenchResult, Reading
from engine.bench.figures import Figures, Quantiles
from engine.bench.machine_facts import Machine
from engine.bench.workload import Load, Timing, Workload
from engine.errors import InputError
from engine.protocol.score_config import ScoreConfig
from tests.engine.weights.served import live
from training.report.bench_report import (
    bench_tables,
    comparison_table,
    describe_bench,
    draw_bench,
)

LOADS = (Load(concurrency=1), Load(concurrency=64))
MACHINE = Machine(
    cpu="Some CPU",
    cores=2,
    gpus=(),
    system="Linux 6",
    python="3.11",
    packages={"vllm": "0.32.0"},
)


def figures(pairs: float, seconds: float, *, samples: float = 0.0, errors: int = 0) -> Figures:
    times = Quantiles(mean=seconds, p50=seconds, p95=2 * seconds, p99=3 * seconds)
    return Figures(
        requests=12_345,
        errors=errors,
        requests_per_s=pairs / 10,
        pairs=pairs,
        samples=samples,
        submitted=365 * pairs,
        computed=40 * pairs,
        reused=325 * pairs,
        generated=2 * samples,
        latency=times,
        first_result=times,
    )


def result(speed: float = 1.0, ways: tuple[str, ...] = ("logprobs", "stock")) -> BenchResult:
    readings = [
        Reading(
            way=way,
            load=load,
            repeat=repeat,
            seconds=10,
            figures=figures(
                speed * (1_000 + 10 * repeat) / (1 + 2 * (way == "stock")),
                0.01 * (load.concurrency or 1),
                samples=12_345.0 if way == "samples" else 0.0,
                errors=3 * (way == "stock"),
            ),
            client_cpu=0.9,
            steps={"queue": 0.25, "prefill": 0.7, "decode": 0.05},
        )
        for repeat in range(3)
        for load in LOADS
        for way in ways
    ]
    workload = Workload(
        name="logprobs", tasks="synthetic", n_tasks=3, digest="d", tokenizer="t",
        config=ScoreConfig(),
    )  # fmt: skip
    return BenchResult(
        begun="2026-11-26T21:00:00+00:00",
        workload=workload,
        timing=Timing(),
        loads=LOADS,
        readings=tuple(readings),
        machine=MACHINE,
        engine="started",
        flags=("--enforce-eager",),
        weights=live("base-0"),
        agreement=1.2e-6,
    )


def printed(*tables: object) -> list[str]:
    console = Console(width=80, file=StringIO())
    for table in tables:
        console.print(table)
    assert isinstance(console.file, StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


@pytest.mark.parametrize("ways", [("logprobs", "stock"), ("logprobs", "uncertainty", "samples")])
def test_nothing_is_cut_at_80_columns(ways: tuple[str, ...]) -> None:
    lines = printed(*bench_tables(result(ways=ways)))
    assert not [line for line in lines if "…" in line]
    text = "\n".join(lines)
    for heading in ("requests/s", "pairs/s", "computed/s", "reused/s", "p99", "first", "errors"):
        assert heading in text
    assert ("samples/s" in text) == ("samples" in ways)
    assert text.count("64 at once") == 3 * len(ways)
    assert "1,010 ± 35" in text
    told = describe_bench(result(ways=ways))
    assert max(map(len, told)) <= 80
    assert "25% queue, 70% prefill, 5% decode" in " ".join(told)
    assert ("3.00 times vLLM's own route (2.93 to 3.07), 1 at once" in told) == ("stock" in ways)


def test_a_load_has_no_pairs_and_stands_among_the_times_alone() -> None:
    one = result(ways=("logprobs", "reload"))
    loads = [
        each.model_copy(update={"figures": figures(0, 0.5)}) if each.way == "reload" else each
        for each in one.readings
    ]
    work, tokens, times = (
        "\n".join(printed(table))
        for table in bench_tables(one.model_copy(update={"readings": tuple(loads)}))
    )
    assert "reload" not in work + tokens
    assert "reload" in times


def test_the_picture_holds_every_load(tmp_path: Path) -> None:
    draw_bench(result(), tmp_path / "b.svg")
    text = (tmp_path / "b.svg").read_text()
    for word in ("1 at once", "64 at once", "logprobs", "stock", "pairs a second"):
        assert word in text


def test_two_results_side_by_side() -> None:
    found = compare_benches(result(), result(speed=2.0))
    rates = [each for each in found if (each.name, each.way) == ("pairs/s", "logprobs")]
    assert [str(each.load) for each in rates] == ["1 at once", "64 at once"]
    for each in rates:
        assert each.ratio.value == pytest.approx(2.0)
        assert each.ratio.low is not None
        assert each.ratio.low < 2.0
    (same, *_) = [each for each in found if each.name == "p50"]
    assert same.ratio.value == 1.0
    lines = printed(comparison_table(found, ("before_the_change", "after_the_change[b]")))
    assert not [line for line in lines if "…" in line]
    assert "[b]" in "".join(lines), "what a file is called is no markup"
    assert len([line for line in lines if "pairs/s" in line]) == 4


def test_unlike_workloads_are_refused_and_other_conditions_named() -> None:
    one = result()
    other = one.workload.model_copy(update={"per_request": 8})
    with pytest.raises(InputError, match="b: is another workload: per_request 1 and 8"):
        compare_benches(one, one.model_copy(update={"workload": other}), Path("b"))
    timed = one.model_copy(update={"timing": Timing(pairs=9)})
    with pytest.raises(InputError, match="pairs measured None and 9"):
        compare_benches(one, timed, Path("b"))
    apart = one.model_copy(update={"loads": (), "readings": ()})
    with pytest.raises(InputError, match="no load or way in common"):
        compare_benches(one, apart, Path("b"))
    machine = MACHINE.model_copy(update={"packages": {"vllm": "0.33.0"}})
    changed = one.model_copy(update={"machine": machine, "flags": ()})
    assert conditions(one, one) == []
    assert conditions(one, changed) == ["flags: --enforce-eager -> none", "vllm: 0.32.0 -> 0.33.0"]
