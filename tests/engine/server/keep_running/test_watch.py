"""The watcher, with servers that die, hang or never get ready."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from engine.errors import GaveUpError, InputError
from engine.server.keep_running import watch
from engine.server.keep_running.watch import Watcher, WatchSettings
from engine.weights.live_file import LastGood, read_last_good, write_last_good

QUICK = WatchSettings(
    start_seconds=0.2,
    silence_seconds=0.1,
    busy_seconds=0.3,
    poll_seconds=0.001,
    pause_seconds=0.001,
)


@dataclass
class Clock:
    """In the place of the module `time`."""

    now: float = 0.0

    def monotonic(self) -> float:
        return self.now


CLOCK = Clock()
GOOD = LastGood(version="round-01-abc", path=str(Path(__file__).parent))


@dataclass
class FakeServer:
    """Looks at itself; ends, falls silent or gets ready after so many looks."""

    dies_after: int | None = None
    silent_after: int | None = None
    ready_after: int | None = 2
    code: int = 70
    work: float = 0.0
    looks: int = 0
    stopped: bool = False
    stop_seconds: list[float | None] = field(default_factory=list)

    def stop(self, timeout_s: float | None = None) -> None:
        self.stopped = True
        self.stop_seconds.append(timeout_s)

    def running(self) -> bool:
        self.looks += 1
        return self.dies_after is None or self.looks <= self.dies_after

    def answers(self, timeout_s: float = 2.0) -> bool:
        return self.silent_after is None or self.looks <= self.silent_after

    def work_seconds(self) -> float:
        return self.looks * self.work

    def ready(self) -> bool:
        return self.ready_after is not None and self.looks >= self.ready_after

    def wait(self) -> int:
        return self.code


@dataclass
class Stage:
    """Starts one prepared server after the other; tells the watcher to stop after the last."""

    servers: list[FakeServer]
    file: Path
    started_on: list[LastGood | None] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def start(self, last: LastGood | None) -> FakeServer:
        self.started_on.append(last)
        return self.servers[len(self.started_on) - 1]

    def stop(self, seconds: float) -> bool:
        CLOCK.now += seconds
        at_last = len(self.started_on) == len(self.servers)
        return at_last and self.servers[-1].looks > 5 and self.servers[-1].dies_after is None

    def watch(self, settings: WatchSettings = QUICK) -> None:
        Watcher(self.start, self.file, self.stop, self.said.append, settings).run()
        assert all(server.stopped for server in self.servers)


@pytest.fixture(autouse=True)
def time_passes_only_in_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "time", CLOCK)


def test_told_to_stop(tmp_path: Path) -> None:
    stage = Stage([FakeServer()], tmp_path / "live")
    stage.watch()
    assert stage.started_on == [None]
    assert stage.servers[0].stop_seconds == [None], "requests in flight have the time they are due"
    assert any(line.startswith("ready after") for line in stage.said)


@pytest.mark.parametrize(
    ("failing", "why"),
    [
        (FakeServer(dies_after=4, code=70), "ended with code 70"),
        (FakeServer(dies_after=4, code=0), "ended with code 0"),
        (FakeServer(silent_after=4), "has not answered for"),
        (FakeServer(silent_after=4, work=1.0), "has not answered for"),
        (FakeServer(ready_after=None), "was not ready after"),
    ],
)
def test_what_fails_is_started_again(tmp_path: Path, failing: FakeServer, why: str) -> None:
    stage = Stage([failing, FakeServer()], tmp_path / "live")
    stage.watch()
    assert len(stage.started_on) == 2
    assert any(why in line and "again on the model" in line for line in stage.said)
    assert failing.stop_seconds[0] is not None


def test_it_starts_on_the_weights_that_were_live(tmp_path: Path) -> None:
    file = tmp_path / "live"
    stage = Stage([FakeServer(dies_after=3), FakeServer()], file)
    start = stage.start

    def load_and_start(last: LastGood | None) -> FakeServer:
        server = start(last)
        write_last_good(file, GOOD)
        return server

    stage.start = load_and_start  # type: ignore[method-assign]
    stage.watch()
    assert stage.started_on == [None, GOOD]
    assert any(GOOD.version in line for line in stage.said)


def test_a_record_that_is_removed_is_remembered(tmp_path: Path) -> None:
    file = tmp_path / "live"
    stage = Stage([FakeServer(dies_after=6), FakeServer()], file)
    write_last_good(file, GOOD)
    stop = stage.stop

    def clean(seconds: float) -> bool:
        if stage.servers[0].looks == 4:
            file.unlink()
        elif stage.servers[0].looks == 5:
            file.mkdir()  # nor does a disk that fails end a server
        elif file.is_dir():
            file.rmdir()
        return stop(seconds)

    stage.stop = clean  # type: ignore[method-assign]
    stage.watch()
    assert stage.started_on == [GOOD, GOOD]


def test_live_weights_that_are_gone_are_not_started_on(tmp_path: Path) -> None:
    file = tmp_path / "live"
    stage = Stage([FakeServer(dies_after=3), FakeServer()], file)
    start = stage.start

    def load_and_start(last: LastGood | None) -> FakeServer:
        write_last_good(file, LastGood(version="v", path=str(tmp_path / "gone")))
        return start(last)

    stage.start = load_and_start  # type: ignore[method-assign]
    with pytest.raises(InputError, match=r"live last, .*gone, which are gone"):
        stage.watch()
    assert stage.started_on == [None]


def test_it_gives_up(tmp_path: Path) -> None:
    servers = [FakeServer(dies_after=1, code=1) for _ in range(3)]
    stage = Stage(servers, tmp_path / "live")
    with pytest.raises(GaveUpError, match="ended with code 1; that was failure 3, giving up"):
        stage.watch()
    assert len(stage.started_on) == 3


def test_failures_long_ago_are_forgotten(tmp_path: Path) -> None:
    settings = WatchSettings(
        tries=2, window_seconds=0.0, poll_seconds=0.001, pause_seconds=0.001, silence_seconds=1
    )
    servers = [*(FakeServer(dies_after=3) for _ in range(4)), FakeServer()]
    Stage(servers, tmp_path / "live").watch(settings)


def test_failures_of_slow_starts_are_not(tmp_path: Path) -> None:
    settings = WatchSettings(poll_seconds=300.0, silence_seconds=1e4)
    servers = [FakeServer(dies_after=2, ready_after=None) for _ in range(3)]
    with pytest.raises(GaveUpError, match="failure 3"):
        Stage(servers, tmp_path / "live").watch(settings)


def test_many_tries_are_not_days_apart(tmp_path: Path) -> None:
    settings = replace(QUICK, tries=1_100, pause_seconds=1.0, window_seconds=600.0)
    servers = [FakeServer(dies_after=1, ready_after=None) for _ in range(1_100)]
    begun = CLOCK.now
    with pytest.raises(GaveUpError, match="failure 1100"):
        Stage(servers, tmp_path / "live").watch(settings)
    assert CLOCK.now - begun < 1_100 * 601


def test_bad_flags_are_not_tried_again(tmp_path: Path) -> None:
    stage = Stage([FakeServer(dies_after=0, code=2), FakeServer()], tmp_path / "live")
    with pytest.raises(InputError, match="refused its flags"):
        stage.watch()


def test_the_live_file(tmp_path: Path) -> None:
    file = tmp_path / "live"
    assert read_last_good(file) is None
    write_last_good(file, GOOD)
    assert read_last_good(file) == GOOD
    assert [path.name for path in tmp_path.iterdir()] == ["live"]
    file.write_text("{")
    with pytest.raises(InputError, match="does not say"):
        read_last_good(file)
