"""`jostle bench` over HTTP: from the command line to the tables, the file and the picture."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.bench.bench_result import read_bench
from engine.weights.manifest import MANIFEST_NAME
from tests.engine.bench.bench_server import BenchServer, bench_server, served_model
from tests.engine.weights.made_manifests import publish

DESIGN = ("-n", 2, "-k", 2, "--warm-up", 0)
SHORT = ("--pairs", 6, "--repeats", 2, *DESIGN)


@pytest.fixture
def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[BenchServer]:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    with bench_server(served_model(tmp_path / "model")) as server:
        yield server


@pytest.mark.slow
def test_pairs_against_vllms_own_route(running: BenchServer, jostle: Any, tmp_path: Path) -> None:
    code, shown = jostle(
        "bench", "logprobs", "--url", running.url, "-o", "b.json", "--picture", "b.png",
        "--against", "stock", "--concurrency", "1,4", "--prompt-tokens", 400, *SHORT,
    )  # fmt: skip
    assert code == 0, shown
    result = read_bench(tmp_path / "b.json")
    assert [(way, str(load)) for way, load, _ in result.rows()] == [
        ("logprobs", "1 at once"),
        ("stock", "1 at once"),
        ("logprobs", "4 at once"),
        ("stock", "4 at once"),
    ]
    assert result.engine == running.url
    assert result.workload.shape is not None
    assert result.workload.shape.prompt_tokens == 400
    assert result.agreement == pytest.approx(1e-6, rel=0.01)
    assert result.machine.cores >= 1
    assert "times vLLM's own route (" in shown
    assert (tmp_path / "b.png").read_bytes().startswith(b"\x89PNG")
    code, shown = jostle("bench", "logprobs", "--url", running.url, "-o", "b.json", *SHORT)
    assert code == 2
    assert "b.json" in shown


@pytest.mark.slow
def test_two_are_compared_if_they_are_the_same_workload(
    running: BenchServer, jostle: Any, tmp_path: Path
) -> None:
    def bench(name: str, *more: object) -> None:
        words = ("bench", "logprobs", "--url", running.url, "-o", name, "--concurrency", 1, *SHORT)
        code, shown = jostle(*words, "--prompt-tokens", 400, *more)
        assert code == 0, shown

    bench("a.json")
    running.pair_s *= 20
    bench("b.json")
    bench("c.json", "--seed", 1)
    code, shown = jostle("bench", "compare", "a.json", "b.json")
    assert code == 0, shown
    (row,) = [line for line in shown.splitlines() if "pairs/s" in line]
    assert float(row.split()[-4]) < 0.9
    code, shown = jostle("bench", "compare", "a.json", "c.json")
    assert code == 2
    assert "c.json: is another workload: digest " in shown
    assert "seed 0 and 1" in shown
    (tmp_path / "d.json").write_text("{}")
    code, shown = jostle("bench", "compare", "a.json", "d.json")
    assert code == 2
    assert "is not what jostle bench writes" in shown


def test_a_pools_times_are_told(
    running: BenchServer, jostle: Any, tmp_path: Path, pool: Path
) -> None:
    code, shown = jostle(
        "bench", "uncertainty", "--url", running.url, "--estimate", pool, "--concurrency", 2, *SHORT
    )  # fmt: skip
    assert code == 0, shown
    times = read_bench(tmp_path / "bench.json").estimate
    assert times is not None
    assert (times.tasks, times.pairs) == (20, 20 * 6)
    assert times.scoring > 20 * 6 / 2 * running.pair_s
    assert times.race == pytest.approx(times.scoring / 2)
    assert "  scoring  about " in shown
    assert "not reckoned: no model is named" in shown


def test_the_repeats_of_an_estimate_follow_each_other(
    running: BenchServer, jostle: Any, tmp_path: Path, pool: Path
) -> None:
    code, shown = jostle(
        "bench", "uncertainty", "--url", running.url, "--estimate", pool,
        "--seconds", 0.2, "--warm-up", 0.1, "--repeats", 2, *DESIGN,
    )  # fmt: skip
    assert code == 0, shown
    assert "uncertainty, 4 at once  " in shown
    assert "of 2)" not in shown
    assert len(read_bench(tmp_path / "bench.json").readings) == 2


def test_samples_are_told_apart_and_a_rate_may_be_given(
    running: BenchServer, jostle: Any, tmp_path: Path
) -> None:
    code, shown = jostle(
        "bench", "mixed", "--url", running.url, "--samples", 3, "--request-rate", "50,20",
        "--prompt-tokens", 400, "--pairs", 20, "--repeats", 1, *DESIGN,
    )  # fmt: skip
    assert code == 0, shown
    result = read_bench(tmp_path / "bench.json")
    assert {way for way, _, _ in result.rows()} == {"logprobs", "uncertainty", "samples"}
    assert [str(load) for load in result.loads] == ["50 a second", "20 a second"]
    assert "samples/s" in shown


def test_weights_change_meanwhile_and_are_back_in_the_end(
    running: BenchServer, jostle: Any, tmp_path: Path
) -> None:
    version = publish(tmp_path / "trained")
    assert json.loads((tmp_path / "trained" / MANIFEST_NAME).read_text())["version"] == version
    before = running.version
    code, shown = jostle(
        "bench", "reload", "--url", running.url, "--checkpoint", "trained", "--reload-every", 0.02,
        "--concurrency", 2, "--prompt-tokens", 400, "--repeats", 1, "--seconds", 0.3, *DESIGN,
    )  # fmt: skip
    assert code == 0, shown
    assert running.loads[:2] == [version, before]
    assert running.version == before
    assert {way for way, _, _ in read_bench(tmp_path / "bench.json").rows()} == {
        "logprobs",
        "reload",
    }


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("logprobs", "-o", "b.txt"), "'--output': the output's name must end in .json"),
        (("logprobs", "--picture", "b.pdf"), "'--picture': must end in .png or .svg"),
        (("logprobs", "--estimate", "p"), "'--estimate': goes with uncertainty or samples"),
        (("samples", "--estimate", "p", "--pool", "p"), "'--estimate': names the pool"),
        (("samples", "--pool", "p", "--prompt-tokens", 99), "'--prompt-tokens': goes with tasks"),
        (("samples", "--against", "stock"), "'--against': goes with logprobs"),
        (("logprobs", "--against", "sglang"), "'--against': can be stock"),
        (("logprobs", "--samples", 3), "'--samples': goes with samples or mixed"),
        (("mixed", "--concurrency", 1, "--request-rate", 2), "goes without --concurrency"),
        (("mixed", "--concurrency", "1,x"), "'--concurrency': expected numbers above 0"),
        (("mixed", "--request-rate", "0"), "'--request-rate': expected numbers above 0"),
        (("mixed", "--seconds", 1, "--pairs", 2), "'--pairs': goes without --seconds"),
        (("mixed", "--checkpoint", "c"), "'--checkpoint': goes with reload"),
        (("reload", "--url", "http://127.0.0.1:9"), "'--checkpoint': is needed with --url"),
        (("mixed", "--url", "http://127.0.0.1:9", "--", "--x"), "goes with an engine that is star"),
    ],
)
def test_an_option_that_says_nothing_is_refused(
    words: tuple[object, ...], complaint: str, jostle: Any, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    code, shown = jostle("bench", *words)
    assert code == 2, shown
    assert complaint in shown
