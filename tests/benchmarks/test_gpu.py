"""The benchmark for a GPU goes through its stages whatever fails, and does nothing twice."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from benchmarks.common.floor import Rates, model_sizes
from benchmarks.common.pairs import BenchmarkPairs
from benchmarks.common.random_model import weight_bytes
from benchmarks.gpu import STAGES, Session, main, parse_variant, report
from benchmarks.gpu_stages.gpu_pairs import steady
from benchmarks.gpu_stages.gpu_precision import compare, differences, try_load, try_sleep
from benchmarks.gpu_stages.gpu_speed import SpeedStage
from benchmarks.gpu_stages.gpu_stage import Bench, Device, Note, Variant
from benchmarks.gpu_stages.precision_answer import Load, Tokens
from benchmarks.peers.contenders import Peer, Server, slug
from benchmarks.peers.ways import Answer
from cli.main import app
from engine.errors import EngineError
from engine.protocol.api import Usage
from engine.protocol.completions import TokenPair
from engine.protocol.score_config import ScoreConfig
from engine.tasks import Task

EXACT = {"kind": "exact", "engine": "bfloat16", "max_dp": 0.02, "again_pairs_rescored": 0}
LOAD = {"kind": "load", "engine": "bfloat16", "load": "trained", "accepted": True, "right": True}
SPEED = {"name": "jostle", "pairs": 1650, "seconds": 5.0, "floor_flops": 2e15, "start_s": 60.0}
ROWS: dict[str, list[dict[str, Any]]] = {
    "precision": [EXACT, LOAD | {"seconds": 0.9}],
    "speed": [
        SPEED,
        {"name": "matrix products", "flops": 5e14},
        {"name": "vLLM, whole-prompt log-probabilities", "pairs": 1650, "seconds": 15.0},
    ],
    "demo": [{"name": "jostle demo", "seconds": 55.0, "said": "..."}],
}


class FakeStage:
    """Writes down what is done with it."""

    estimate_s = 10.0
    gib = 30.0

    def __init__(self, name: str, events: list[str], *, fails: bool = False) -> None:
        self.name = name
        self.timed = name != "precision"
        self.patient = name != "demo"
        self._events = events
        self._fails = fails

    def begin(self) -> None:
        self._events.append(f"begin {self.name}")

    def work(self, note: Note) -> None:
        self._events.append(f"work {self.name}")
        for row in ROWS[self.name]:
            note(row)
        if self._fails:
            raise OSError("no memory is left")

    def stop(self) -> None:
        self._events.append(f"stop {self.name}")


def go(
    out: Path, *fails: str, deadline: float = math.inf, gib: float | None = None
) -> tuple[Bench, list[str]]:
    events: list[str] = []
    bench = Bench(out, Device("Some GPU 80GB", gib), deadline=deadline)

    def stage(name: str) -> Callable[[Bench], FakeStage]:
        return lambda _: FakeStage(name, events, fails=name in fails)

    stages = {name: stage(name) for name in ROWS}
    Session(bench, lambda: report(bench, out / "results"), stages).run([*ROWS])
    return bench, [event for event in events if not event.startswith("stop")]


def test_a_stage_that_fails_is_told_and_done_again_and_the_others_are_not(tmp_path: Path) -> None:
    bench, events = go(tmp_path, "speed")
    assert events == [f"{what} {name}" for name in ROWS for what in ("begin", "work")]
    found = bench.read("speed")
    assert found is not None
    assert found["fault"] == "OSError: no memory is left"
    assert found["rows"] == ROWS["speed"], "what was measured before is kept"
    assert "no memory is left" in (tmp_path / "results" / "gpu-some-gpu-80gb.txt").read_text()
    _, events = go(tmp_path)
    assert events == ["begin speed", "work speed"]


def test_no_stage_begins_that_would_not_end_in_time(tmp_path: Path) -> None:
    bench, events = go(tmp_path, deadline=time.monotonic() + 9.0)
    assert events == []
    assert bench.read("precision") is None


@pytest.mark.parametrize(("gib", "beside"), [(80.0, True), (60.0, False)])
def test_servers_start_beside_a_stage_that_measures_no_speed_where_there_is_room(
    tmp_path: Path, gib: float, beside: bool
) -> None:
    _, events = go(tmp_path, gib=gib)
    assert (events.index("begin speed") < events.index("work precision")) == beside
    assert events.index("work speed") < events.index("begin demo"), "never beside a measuring"


def test_tables_tell_ratios(tmp_path: Path) -> None:
    go(tmp_path)
    text = (tmp_path / "results" / "gpu-some-gpu-80gb.txt").read_text()
    line = next(line for line in text.splitlines() if "jostle " in line and "1,650" in line)
    for cell in ("330.0", "3.00", "1.25"):  # pairs/s, x whole prompts, x floor
        assert cell in line
    assert "accepted" in text
    assert "jostle demo: 55 s" in text


def test_variants_that_were_measured_are_not_measured_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path, Device("Some GPU 80GB", 80.0))
    variants = [Variant("one"), Variant("two")]
    bench.write("variants", {"rows": [{"name": "one"}, {"name": "two", "fault": "no"}]})
    stage = SpeedStage(bench, "variants", variants, estimate_s=1)
    assert [server.name for server in stage._servers] == ["two"]


def test_every_stage_fits_a_device_of_80_gb(tmp_path: Path) -> None:
    bench = Bench(tmp_path, Device("Some GPU 80GB", 79.6))
    for make in STAGES.values():
        assert make(bench).gib < 76
    large = bench.large()
    assert weight_bytes(large) == pytest.approx(2 * 8.03e9, rel=0.001)
    assert model_sizes(bench.small) == (106_168_320, 28_311_552)
    assert "--kv-cache-memory-bytes=1073741824" in bench.memory(1.0)


def test_differences_are_of_geometric_means_and_of_tokens() -> None:
    found = differences([[math.log(0.5), math.log(0.5)]], [[math.log(0.25), 0.0]])
    assert found["max_dp"] == pytest.approx(0.0)
    assert found["max_dlogp"] == pytest.approx(math.log(2))
    assert slug("jostle, steps of 16,384") == "jostle-steps-of-16-384"


class FakeClient:
    """Every token has log-probability -1, every pair costs a token."""

    def completion_logprobs(self, pairs: Sequence[TokenPair], *, tokens: bool = False) -> Any:
        lengths = [len(pair.completion_token_ids) if tokens else 0 for pair in pairs]
        results = [
            SimpleNamespace(token_logprobs=(-1.0,) * n, token_is_greedy=(True,) * n)
            for n in lengths
        ]
        return SimpleNamespace(results=results, usage=self._usage(len(pairs)))

    def score(self, tasks: Sequence[Task], config: ScoreConfig) -> Any:
        n = config.n_prompts(config.n_instances)
        return iter([SimpleNamespace(usage=self._usage(n)) for _ in tasks])

    def weights(self) -> Any:
        return SimpleNamespace(version="v")

    restore_weights = release_weights = weights

    def load_weights(self, folder: Path, version: str) -> None:
        if version == "stale":
            raise EngineError("not verified")

    def _usage(self, n: int) -> Usage:
        return Usage(pairs=n, tokens_submitted=n)


def test_servers_are_measured_in_turn_and_one_that_does_not_start_is_a_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []

    def wait(server: Server) -> Any:
        events.append(f"wait {server.name}")
        if server.name == "two":
            raise EngineError("no memory is left")
        return FakeClient()

    monkeypatch.setattr(Server, "start", lambda server: events.append(f"start {server.name}"))
    monkeypatch.setattr(Server, "wait", wait)
    monkeypatch.setattr(Server, "stop", lambda server: events.append(f"stop {server.name}"))
    monkeypatch.setattr(
        "benchmarks.gpu_stages.gpu_speed.read_rates", lambda *_, **__: Rates(best=1e12)
    )
    bench = Bench(tmp_path, Device("cpu", None), Path("/no/such/folder"), tiny=True)
    stage = SpeedStage(
        bench, "speed", [Variant(n) for n in ("one", "two", "three")], estimate_s=1, whole=True
    )
    rows: list[dict[str, Any]] = []
    stage.begin()
    stage.work(rows.append)
    names = ["one", "matrix products", "one, whole tasks", "one, references generated too"]
    assert [row["name"] for row in rows] == [*names, "two", "three"]
    assert rows[0]["pairs"] == 6
    assert rows[2]["pairs"] == 12
    assert rows[2]["tokens_computed"] == 12
    assert 0 < rows[0]["tokens_unique"] < rows[2]["tokens_unique"]
    assert "no memory is left" in rows[4]["fault"]
    assert events == [
        f"{what} {name}" for name in ("one", "two", "three") for what in ("start", "wait", "stop")
    ], "one at a time where there is no GPU"


def test_an_engine_is_compared_and_its_loads_are_judged() -> None:
    pairs = BenchmarkPairs(model="", prompts=[[5, 6], [5, 7]], outputs=[[8], [8, 9]])
    exact = Tokens(logprobs=[[-1.0], [-1.5, -1.0]], ranks=[[1], [1, 2]])
    client: Any = FakeClient()
    row = compare(client, pairs, exact)
    assert row["max_dlogp"] == 0.5
    assert (row["greedy_agree"], row["tokens"]) == (2, 3)
    assert row["again_max_dp"] == 0.0
    for version, accepted, right in (("good", True, True), ("stale", False, False)):
        load = Load(name=version, accepted=True, folder=Path(), version=version)
        tried = try_load(client, load)
        assert (tried["accepted"], tried["right"]) == (accepted, right)

    slept = try_sleep(client)
    assert slept["right"]
    assert "0.0 GiB" in slept["load"]


def test_a_steady_rate_leaves_out_how_a_scoring_begins_and_ends() -> None:
    idle = [(0.5, 110), (0.9, 110)]
    busy = [(2.0 + index / 2, 110) for index in range(20)]
    assert steady([*idle, *busy, (14.0, 110)]) == {"steady_pairs_per_second": 220.0}
    assert steady(idle) == {}


def test_a_variant_in_words() -> None:
    assert parse_variant("V1, large steps --max-num-batched-tokens=16384 A=1 B=x=y") == Variant(
        "V1, large steps", ("--max-num-batched-tokens=16384",), {"A": "1", "B": "x=y"}
    )


def test_a_peer_scores_when_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "python"
    program.write_text(
        "#!/bin/sh\n"  # python -m benchmarks.peers.ways WAY PAIRS ANSWER
        'touch "${5%.json}.ready"; read line\n'
        '[ "$3" = good ] || { echo "ValueError: no memory"; exit 1; }\n'
        'echo \'{"seconds": 2.0, "logprobs": [-1.0]}\' > "$5"\n'
    )
    program.chmod(0o755)
    monkeypatch.setattr("benchmarks.peers.contenders.sys", SimpleNamespace(executable=str(program)))
    pairs = BenchmarkPairs(model="", prompts=[[5]], outputs=[[6]])
    peer = Peer("some way", "good", tmp_path)
    peer.start(pairs)
    assert not (tmp_path / "some-way.json").exists()
    assert peer.measure().seconds == 2.0
    peer.stop()
    peer = Peer("some way", "bad", tmp_path)
    peer.start(pairs)
    with pytest.raises(EngineError, match="some way: ValueError: no memory"):
        peer.measure()
    peer.stop()


def test_records_of_one_device_are_not_those_of_another(tmp_path: Path) -> None:
    kinds = [(Device("one GPU", 80.0), False), (Device("another", 80.0), False)]
    benches = [Bench(tmp_path, device, tiny=tiny) for device, tiny in (*kinds, (kinds[0][0], True))]
    benches[0].write("small", {"rows": [], "fault": None})
    assert [bench.read("small") is not None for bench in benches] == [True, False, False]


def test_records_go_on_with_the_same_tasks_only_and_tell_day_and_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    for name in ROWS:
        monkeypatch.setitem(STAGES, name, partial(lambda name, _: FakeStage(name, events), name))
    monkeypatch.setattr("benchmarks.gpu.find_device", lambda: Device("Some GPU 80GB", None))

    def run(stages: str, tasks: Path) -> None:
        folders = [f"--out={tmp_path / 'out'}", f"--results={tmp_path}", f"--tasks-folder={tasks}"]
        monkeypatch.setattr("sys.argv", ["gpu", f"--stages={stages}", *folders])
        main()

    run("precision", Path("no such folder"))
    run("precision,demo", Path("no such folder"))
    assert [event for event in events if event.startswith("work")] == [
        "work precision",
        "work demo",
    ]
    found = json.loads((tmp_path / "gpu-some-gpu-80gb.json").read_text())
    assert found["date"] == found["stages"]["demo"]["date"]
    assert "jostle" in found["machine"]["packages"]
    with pytest.raises(SystemExit, match="holds answers of other settings"):
        run("demo", tmp_path)


@pytest.mark.parametrize("tiny", [True, False])
def test_the_demo_is_started_as_a_user_starts_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: bool
) -> None:
    program = tmp_path / "python"
    program.write_text('#!/bin/sh\nshift 2; printf "%s\\n" "$@"; [ ! -e fails ] || exit 3\n')
    program.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "benchmarks.gpu_stages.gpu_demo.sys", SimpleNamespace(executable=str(program))
    )
    bench = Bench(tmp_path, Device("cpu", None), tiny=tiny)
    stage = STAGES["demo"](bench)
    rows: list[dict[str, Any]] = []
    stage.begin()
    stage.work(rows.append)
    stage.stop()
    options = rows[0]["said"].split()
    assert options[:2] == ["demo", f"--run-dir={bench.out / 'demo-run'}"]
    assert ("--rounds" in options) == tiny
    assert CliRunner().invoke(app, [*options, "--help"]).exit_code == 0, "it has these options"
    (tmp_path / "fails").touch()
    stage.begin()
    with pytest.raises(EngineError, match="ended with code 3: demo"):
        stage.work(rows.append)


def test_peers_get_some_of_the_pairs_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    given: dict[str, BenchmarkPairs] = {}

    def start(peer: Peer, pairs: BenchmarkPairs) -> None:
        events.append(f"start {peer.name}")
        given[peer.name] = pairs

    def measure(peer: Peer) -> Any:
        events.append(f"measure {peer.name}")
        if peer.name.endswith("32"):
            raise EngineError("no memory is left")
        return Answer(seconds=2.0, logprobs=[-1.0] * len(given[peer.name].prompts))

    monkeypatch.setattr(Peer, "start", start)
    monkeypatch.setattr(Peer, "measure", measure)
    monkeypatch.setattr(Peer, "stop", lambda peer: events.append(f"stop {peer.name}"))
    bench = Bench(tmp_path, Device("cpu", None), Path("/no/such/folder"), tiny=True)
    stage, names = (
        STAGES["peers"](bench),
        [f"transformers, padded batches of {n}" for n in (16, 32)],
    )
    rows: list[dict[str, Any]] = []
    stage.begin()
    stage.work(rows.append)
    assert [row["name"] for row in rows] == names
    assert rows[0]["seconds"] == 2.0
    assert rows[0]["pairs"] == len(given[names[0]].prompts) <= 330
    assert rows[0]["floor_flops"] > 0
    assert "no memory is left" in rows[1]["fault"]
    asked = [f"{what} {name}" for name in names for what in ("measure", "stop")]
    assert events == [*(f"start {name}" for name in names), *asked]
