"""Order of events when weights change, and what is live after each way it can fail."""

from __future__ import annotations

import asyncio
import os
import shutil
import threading
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from engine.errors import EngineError, InputError
from engine.protocol.limits import Limits
from engine.server.reload import admission
from engine.server.reload.gate import GateTimeoutError
from engine.server.reload.live_record import LiveRecord, SharedFolder
from engine.server.reload.prover import Prover
from engine.weights.live_file import read_last_good
from engine.weights.manifest import read_manifest
from tests.engine.server.http.fake_server import FakeEngine, FakeLiveWeights
from tests.engine.weights import made_manifests
from tests.engine.weights.made_manifests import publish
from tests.engine.weights.served import SERVED
from tests.engine.weights.served import live as live_state

LIMITS = Limits(drain_seconds=0.2, load_seconds=0.3)


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture(autouse=True)
def _no_files(monkeypatch: pytest.MonkeyPatch, engine: FakeEngine) -> None:
    """The check of files has tests of its own."""

    def check(folder: Path, manifest: Any, live: Path) -> None:
        engine.events.append("check")

    monkeypatch.setattr(admission, "check_checkpoint", check)
    monkeypatch.setattr(admission, "check_adapter", check)


def live_on(engine: FakeEngine, root: Path | None, **more: Any) -> FakeLiveWeights:
    return FakeLiveWeights(engine, root, LIMITS, **more)


def test_check_drain_load_reset_verify_and_only_then_the_version(
    engine: FakeEngine, tmp_path: Path
) -> None:
    version = publish(tmp_path / "one")
    live = live_on(engine, tmp_path, live_file=tmp_path / "live")

    async def run() -> None:
        engine.hold = asyncio.Event()
        async with live.gate.reading(1):
            loading = asyncio.create_task(live.load(tmp_path / "one", version))
            while "check" not in engine.events:
                await asyncio.sleep(0.001)
            await asyncio.sleep(0.02)
            assert engine.events == ["check"], "a request is in flight"
        while "load one" not in engine.events:
            await asyncio.sleep(0.001)
        assert live.loading
        assert live.state.version == "base"
        assert read_last_good(tmp_path / "live") is None
        engine.hold.set()
        assert (await loading).version == version

    asyncio.run(run())
    assert engine.events == ["check", "before", "load one", "reset", "after the load"]
    assert engine.encoders_reset == 1
    assert live.state.version == version
    assert not live.loading
    last = read_last_good(tmp_path / "live")
    assert last is not None
    assert (last.version, last.path) == (version, str(tmp_path / "one"))
    looks = [salt for salt in live.salts if "probe" in salt]
    assert len(looks) == len(set(looks)) == 2, "no look reads what another has cached"


@pytest.mark.parametrize("several", [False, True])
def test_the_event_loop_never_waits_for_a_disk(
    engine: FakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, several: bool
) -> None:
    version, sync, syncing = publish(tmp_path / "one"), os.fsync, set[threading.Thread]()

    def note(file: int) -> None:
        syncing.add(threading.current_thread())
        sync(file)

    (tmp_path / "shared").mkdir()
    shared = tmp_path / "shared" if several else None
    live = live_on(engine, tmp_path, live_file=tmp_path / "live", shared=shared)
    monkeypatch.setattr(os, "fsync", note)
    asyncio.run(live.load(tmp_path / "one", version))
    assert read_last_good(tmp_path / "live") is not None
    assert syncing
    assert threading.main_thread() not in syncing


def test_nobody_reads_what_could_not_be_shared(tmp_path: Path) -> None:
    shared = SharedFolder(tmp_path, LiveRecord(state=live_state("base")))
    (tmp_path / f"live.{os.getpid()}").mkdir()
    with pytest.raises(InputError, match=r"live\.json: cannot be written: Is a directory"):
        shared.write(LiveRecord(state=live_state("other")))
    assert shared.read().state.version == "base"


def test_other_weights_take_the_place_of_those_that_are_gone(
    engine: FakeEngine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    versions = {name: publish(tmp_path / name) for name in ("one", "two")}
    live = live_on(engine, tmp_path)

    async def run() -> None:
        await live.load(tmp_path / "one", versions["one"])
        assert "taken back" not in caplog.text
        shutil.rmtree(tmp_path / "one")
        await live.load(tmp_path / "two", versions["two"])

    asyncio.run(run())
    assert live.state.version == versions["two"]
    assert f"{tmp_path / 'one'} is gone: a load that fails cannot be taken back" in caplog.text


def test_nothing_is_touched_when_the_check_fails(
    engine: FakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = publish(tmp_path / "one")

    def check(*_: Any) -> None:
        raise InputError("the tensor is missing", record="w")

    monkeypatch.setattr(admission, "check_checkpoint", check)
    live = live_on(engine, tmp_path)
    with pytest.raises(InputError, match="missing"):
        asyncio.run(live.load(tmp_path / "one", version))
    assert engine.events == []
    assert live.usable


def test_a_connector_that_keeps_its_blocks_does_not_end_the_engine(
    engine: FakeEngine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("engine.server.reload.live_weights.RESET_TRIES", 2)
    engine.connector_keeps = True
    version = publish(tmp_path / "one")
    live = live_on(engine, tmp_path)
    assert asyncio.run(live.load(tmp_path / "one", version)).version == version
    assert "reset without the connector" in engine.events
    assert "the KV connector keeps what it holds" in caplog.text


@pytest.mark.parametrize(
    ("started", "what"),
    [
        ({"load_format": "sharded_state"}, "--load-format sharded_state"),
        ({"moves_experts": True}, "experts that --enable-eplb has moved"),
    ],
)
def test_what_cannot_be_loaded_again_is_not_touched(
    tmp_path: Path, started: dict[str, Any], what: str
) -> None:
    version = publish(tmp_path / "one")
    engine = FakeEngine(sleeps=True, **started)
    live = live_on(engine, tmp_path)
    for call in (live.load(tmp_path / "one", version), live.release()):
        with pytest.raises(InputError, match=f"{what} cannot be loaded again"):
            asyncio.run(call)
    assert engine.events == []


@pytest.mark.parametrize("how", ["fails", "lies", "hangs"])
def test_what_was_live_comes_back_verified(engine: FakeEngine, tmp_path: Path, how: str) -> None:
    good = publish(tmp_path / "good")
    version = publish(tmp_path / "bad", lies=how == "lies")
    if how == "fails":
        engine.fails.add(str(tmp_path / "bad"))
    live = live_on(engine, tmp_path, live_file=tmp_path / "live")

    async def run() -> None:
        await live.load(tmp_path / "good", good)
        engine.events.clear()
        if how == "hangs":
            engine.hold = asyncio.Event()
            asyncio.get_running_loop().call_later(0.4, engine.hold.set)
        with pytest.raises(EngineError, match="v-good is live again"):
            await live.load(tmp_path / "bad", version)

    asyncio.run(run())
    assert engine.events[:3] == ["check", "before", "load bad"]
    assert engine.events[-3:] == ["load good", "reset", "rolled-back"]
    assert engine.loaded == str(tmp_path / "good")
    assert live.state.version == good
    assert live.usable
    last = read_last_good(tmp_path / "live")
    assert last is not None
    assert last.version == good


@pytest.mark.parametrize(
    ("dtype", "noise", "good"),
    [
        ("float32", 1e-4, True),
        ("float32", 6e-3, False),
        ("float32 on cuda", 6e-3, True),
        ("float32 on cuda", 0.3, False),
        ("float16", 6e-3, True),
        ("bfloat16", 0.1, True),
        ("bfloat16", 0.9, False),
    ],
)
def test_a_load_is_judged_by_what_its_precision_can_tell(
    engine: FakeEngine, tmp_path: Path, dtype: str, noise: float, good: bool
) -> None:
    version = publish(tmp_path / "one", n_probes=8)
    engine.dtype, _, engine.device = f"torch.{dtype}".partition(" on ")
    live = live_on(engine, tmp_path)
    live.fake.noise = noise
    if good:
        asyncio.run(live.load(tmp_path / "one", version))
        assert live.state.version == version
        return
    with pytest.raises(EngineError, match=r"after the load the probe pairs differ .* base is live"):
        asyncio.run(live.load(tmp_path / "one", version))


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_a_load_that_did_nothing_is_refused(
    engine: FakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str
) -> None:
    """The change is smaller than what rounding may do to a token."""
    share = {"float32": 5e-4, "float16": 0.0155, "bfloat16": 0.12}[dtype]
    monkeypatch.setattr(made_manifests, "factor", lambda path: 1 + share * path.endswith("one"))
    version = publish(tmp_path / "one", n_probes=8)
    engine.dtype = f"torch.{dtype}"
    engine.ignores.add(str(tmp_path / "one"))
    live = live_on(engine, tmp_path)
    with pytest.raises(EngineError, match="those of the weights before"):
        asyncio.run(live.load(tmp_path / "one", version))
    engine.ignores.clear()
    asyncio.run(live.load(tmp_path / "one", version))
    asyncio.run(live.load(tmp_path / "one", version))
    assert live.state.version == version


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("well", None),
        ("nothing", "they are those of the weights before"),
        ("muddled", "differ from what the same engine says of them: they differ by"),
        ("fails", "the shapes differ"),
        ("written", "was written while it was loaded"),
    ],
)
def test_what_nobody_vouches_for_has_to_agree_with_itself_and_to_differ(
    engine: FakeEngine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    how: str,
    message: str | None,
) -> None:
    monkeypatch.setattr(admission, "published_files", lambda folder: [])
    monkeypatch.setattr(admission, "check_weights", lambda *_: engine.events.append("check"))
    monkeypatch.setattr(admission, "unverified_version", lambda folder: "unverified-1")
    monkeypatch.chdir(tmp_path)
    raw = tmp_path / "raw"
    raw.mkdir()
    live = live_on(engine, tmp_path)
    with pytest.raises(InputError, match="neither base, which is live, nor base is there"):
        asyncio.run(live.load(raw, None, verify="files"))
    (tmp_path / "base").mkdir()
    if how == "nothing":
        engine.ignores.add(str(raw))
    if how == "fails":
        engine.fails.add(str(raw))
    ask = Prover.ask

    async def muddled(self: Prover, probes: Any, when: str, *, together: bool = False) -> Any:
        found = await ask(self, probes, when, together=together)
        return [[(v - 0.1, *more) for v, *more in each] for each in found] if together else found

    if how == "muddled":
        monkeypatch.setattr(Prover, "ask", muddled)
    live = live_on(engine, tmp_path, live_file=tmp_path / "live")
    with pytest.raises(InputError, match="no manifest"):
        asyncio.run(live.load(raw, "unverified-1"))
    with pytest.raises(InputError, match="holds unverified-1, not unverified-2"):
        asyncio.run(live.load(raw, "unverified-2", verify="files"))
    engine.events.clear()
    if how == "written":
        load = FakeEngine.collective_rpc

        async def write(self: FakeEngine, method: str, args: tuple[str, ...]) -> None:
            (raw / "model.safetensors").write_text("others")
            await load(self, method, args)

        monkeypatch.setattr(FakeEngine, "collective_rpc", write)
    if message is not None:
        with pytest.raises(EngineError, match=message):
            asyncio.run(live.load(raw, None, verify="files"))
        assert (live.state.version, engine.loaded) == ("base", "base")
        return
    state = asyncio.run(live.load(raw, None, verify="files"))
    assert (state.version, state.verified) == ("unverified-1", "files")
    events = [event for event, _ in groupby(engine.events)]
    assert events == ["check", "before", "load raw", "reset", "after the load"]
    last = read_last_good(tmp_path / "live")
    assert last is not None
    assert (last.version, last.path) == ("unverified-1", str(raw))
    # The same once more has nothing to differ from; published weights are told by their version.
    asyncio.run(live.load(raw, None, verify="files"))
    publish(tmp_path / "one")
    with pytest.raises(InputError, match="is published"):
        asyncio.run(live.load(tmp_path / "one", None, verify="files"))
    with pytest.raises(InputError, match="is an adapter; jostle publish"):
        asyncio.run(live.load(raw, None, "lora", verify="files"))


def test_a_replica_that_stays_behind_is_not_hidden_by_the_others(
    engine: FakeEngine, tmp_path: Path
) -> None:
    version = publish(tmp_path / "one")
    live = live_on(engine, tmp_path)
    live.fake.n_replicas, live.fake.behind = 16, (11,)
    with pytest.raises(EngineError, match="could not be made live"):
        asyncio.run(live.load(tmp_path / "one", version))
    live.fake.behind = ()
    asyncio.run(live.load(tmp_path / "one", version))


def test_an_engine_that_takes_neither_is_condemned(engine: FakeEngine, tmp_path: Path) -> None:
    version = publish(tmp_path / "bad")
    engine.fails |= {str(tmp_path / "bad"), "base"}
    condemned: list[bool] = []
    live: FakeLiveWeights = live_on(engine, tmp_path, condemn=lambda: condemned.append(live.usable))
    with pytest.raises(EngineError, match="neither the new weights nor base"):
        asyncio.run(live.load(tmp_path / "bad", version))
    assert condemned == [False], "no request gets in before it ends"
    assert live.state.version == "base"


@pytest.mark.parametrize(
    ("at", "message", "ends"),
    [
        ("before", "asking for the probes took over 0 s", False),
        ("after the load", r"asking for the probes took .*base is live again", False),
        ("rolled-back", "neither the new weights nor base", True),
        ("sleep", r"in doubt \(falling asleep took", True),
        ("wake_up", r"in doubt \(waking up took", True),
        ("reset_encoder_cache", "neither the new weights nor base", True),
    ],
)
def test_an_engine_that_hangs_while_nobody_watches_it_is_not_waited_for(
    engine: FakeEngine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    at: str,
    message: str,
    ends: bool,
) -> None:
    version = publish(tmp_path / "one", lies=at == "rolled-back")
    condemned: list[bool] = []
    engine.sleeps = True
    live: FakeLiveWeights = FakeLiveWeights(
        engine,
        tmp_path,
        Limits(load_seconds=0.2),
        condemn=lambda: condemned.append(live.usable),
    )
    ask = Prover.ask

    async def hang(*_: Any, **__: Any) -> None:
        assert live.loading, "somebody watches it otherwise"
        await asyncio.sleep(3600)

    async def ask_or_hang(self: Prover, probes: Any, when: str, **more: Any) -> Any:
        if when == at:
            await hang()
        return await ask(self, probes, when, **more)

    async def run() -> None:
        if at in ("sleep", "wake_up"):
            await live.release()
            await live.restore()
        else:
            await live.load(tmp_path / "one", version)

    monkeypatch.setattr(Prover, "ask", ask_or_hang)
    if hasattr(engine, at):
        monkeypatch.setattr(engine, at, hang)
    with pytest.raises(EngineError, match=message):
        asyncio.run(asyncio.wait_for(run(), 10))
    assert condemned == [False] * ends
    assert live.state.version == "base"
    assert live.usable != ends


def test_an_engine_that_dies_in_the_middle_of_a_load(engine: FakeEngine, tmp_path: Path) -> None:
    version = publish(tmp_path / "one")
    live = live_on(engine, tmp_path, live_file=tmp_path / "live")

    async def run() -> None:
        engine.hold = asyncio.Event()
        loading = asyncio.create_task(live.load(tmp_path / "one", version))
        while "load one" not in engine.events:
            await asyncio.sleep(0.001)
        engine.errored = True
        with pytest.raises(EngineError, match=r"the engine died while it loaded .*again on base"):
            await loading

    asyncio.run(run())
    assert not live.usable
    assert live.state.version == "base"
    assert read_last_good(tmp_path / "live") is None


def test_a_load_gives_up_when_requests_do_not_end(engine: FakeEngine, tmp_path: Path) -> None:
    version = publish(tmp_path / "one")
    live = live_on(engine, tmp_path)

    async def run() -> None:
        async with live.gate.reading(1):
            with pytest.raises(GateTimeoutError):
                await live.load(tmp_path / "one", version)

    asyncio.run(run())
    assert engine.events == ["check"]


def test_a_load_goes_on_when_nobody_waits_for_it(engine: FakeEngine, tmp_path: Path) -> None:
    version = publish(tmp_path / "one")
    live = live_on(engine, tmp_path)

    async def run() -> None:
        engine.hold = asyncio.Event()
        loading = asyncio.create_task(live.load(tmp_path / "one", version))
        while "load one" not in engine.events:
            await asyncio.sleep(0.001)
        loading.cancel()
        await asyncio.sleep(0.01)
        engine.hold.set()
        with pytest.raises(asyncio.CancelledError):
            await loading

    asyncio.run(run())
    assert live.state.version == version, "half a load would be worse than one too many"


def test_two_loads_at_once_are_done_one_after_the_other(engine: FakeEngine, tmp_path: Path) -> None:
    versions = {name: publish(tmp_path / name) for name in ("one", "two")}
    live = live_on(engine, tmp_path)

    async def run() -> None:
        await asyncio.gather(*(live.load(tmp_path / n, v) for n, v in versions.items()))

    asyncio.run(run())
    assert [event for event in engine.events if event.startswith("load")] == [
        "load one",
        "load two",
    ]
    assert live.state.version == versions["two"]


def test_a_checkpoint_that_may_not_be_read_is_an_input_error(
    engine: FakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = publish(tmp_path / "one")

    def refuse(folder: Path) -> None:
        raise PermissionError(13, "Permission denied", "manifest.json")

    monkeypatch.setattr(admission, "read_manifest", refuse)
    with pytest.raises(InputError, match=r"field 'path': cannot be read: .*Permission denied"):
        asyncio.run(live_on(engine, tmp_path).load(tmp_path / "one", version))
    assert engine.events == []


def test_where_checkpoints_may_lie(engine: FakeEngine, tmp_path: Path) -> None:
    root = tmp_path / "root"
    version = publish(tmp_path / "outside")
    publish(root / "inside")
    (root / "link").symlink_to(tmp_path / "outside")
    (root / "circle").symlink_to(root / "circle")
    (root / "dangling").symlink_to(root / "nothing")
    (root / "file").write_text("")
    live = live_on(engine, root)
    for path, message in (
        (tmp_path / "outside", "outside the weights root"),
        (root / "link", "outside the weights root"),
        (root / ".." / "outside", "outside the weights root"),
        (root / "nowhere", "no such folder"),
        (Path("a\0b"), "NUL"),
        (root / ("x" * 500), "cannot be read: .*File name too long"),
        (root / ("x/" * 2500), "cannot be read: .*File name too long"),
        (Path("x" * 5000), "is not absolute"),
        (Path("root"), "is not absolute"),
        (Path("../outside"), "is not absolute"),
        (root / "circle", "Symlink loop|no such folder|symbolic links"),
        (root / "dangling", "no such folder"),
        (root / "\udcff", "cannot be read|no such folder"),
        (root / "\ud800", "cannot be read: .*surrogates"),
        (root / "file", "no such folder"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            asyncio.run(live.load(path, version))
        assert caught.value.field == "path"
    with pytest.raises(InputError, match="holds version v-inside, not other"):
        asyncio.run(live.load(root / "inside", "other"))
    with pytest.raises(InputError, match="without a weights root"):
        asyncio.run(live_on(engine, None).load(root / "inside", version))
    assert engine.events == []


@pytest.mark.parametrize("answers", ["well", "not"])
def test_the_weights_of_the_start_come_back_proved(
    engine: FakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answers: str
) -> None:
    found = [SERVED.weights]
    monkeypatch.setattr(admission, "weights_identity", lambda folder: found[0])
    one, two = publish(tmp_path / "one"), publish(tmp_path / "two")
    live = live_on(engine, tmp_path, live_file=tmp_path / "live", version=SERVED.version)

    async def run() -> None:
        with pytest.raises(InputError, match="nothing is known"):
            await live.load(Path("base"), SERVED.version)
        await live.load(tmp_path / "one", one)
        await live.load(tmp_path / "two", two)
        with pytest.raises(InputError, match=rf"{SERVED.version} lies in base"):
            await live.load(tmp_path / "other", SERVED.version)
        found[0] = "f" * 64
        with pytest.raises(InputError, match="no longer holds what the server was started with"):
            await live.load(Path("base"), SERVED.version)
        found[0] = SERVED.weights
        (tmp_path / "link").symlink_to(Path("base").resolve())
        engine.events.clear()
        if answers == "not":
            engine.ignores.add("base")
            with pytest.raises(EngineError, match=r"base could not be made live .*v-two is live"):
                await live.load(Path("base"), SERVED.version)
        else:
            start = tmp_path / "link" if answers == "well" else Path(SERVED.model)
            await live.load(start, SERVED.version)

    asyncio.run(run())
    assert engine.events[:4] == ["before", "load base", "reset", "after the load"]
    back = answers == "well"
    assert live.state.is_base == back
    assert engine.loaded == ("base" if back else str(tmp_path / "two"))
    last = read_last_good(tmp_path / "live")
    assert last is not None
    assert (last.version, last.model) == (
        (SERVED.version, "base") if back else (two, str(tmp_path / "two"))
    )


def test_an_adapter_is_merged_into_the_weights_it_was_trained_on(
    engine: FakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of the start or the live ones, but never weights that hold an adapter already."""
    digests = {"start": "a" * 64, "whole": "b" * 64}
    monkeypatch.setattr(admission, "base_digest", lambda folder: digests[folder.name])
    (tmp_path / "start").mkdir()
    versions = {"whole": publish(tmp_path / "whole")}
    for name, base in (("one", "start"), ("two", "start"), ("three", "whole")):
        versions[name] = publish(tmp_path / name, base_digest=digests[base])
    versions["lost"] = publish(tmp_path / "lost", base_digest="c" * 64)
    live = live_on(engine, tmp_path, start=tmp_path / "start", live_file=tmp_path / "live")

    async def load(name: str, kind: Any = None) -> None:
        await live.load(tmp_path / name, versions[name], kind)

    async def run() -> None:
        for name in ("one", "two", "whole", "three", "one"):
            await load(name)
        for name, kind in (("lost", None), ("whole", "lora"), ("one", "full")):
            with pytest.raises(InputError):
                await load(name, kind)
        engine.fails.add(str(tmp_path / "two"))
        with pytest.raises(EngineError, match="v-one is live again"):
            await load("two")

    asyncio.run(run())
    assert [event for event in engine.events if event.startswith("load")] == [
        "load start with one",
        "load start with two",
        "load whole",
        "load whole with three",
        "load start with one",
        "load start with two",
        "load start with one",
    ]
    assert (live.state.kind, live.state.base) == ("lora", str(tmp_path / "start"))
    last = read_last_good(tmp_path / "live")
    assert last is not None
    assert (last.model, last.adapter) == (str(tmp_path / "start"), tmp_path / "one")
    assert last.version == versions["one"]


@pytest.mark.parametrize("lies", [False, True])
def test_a_server_that_starts_with_an_adapter(
    engine: FakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lies: bool
) -> None:
    monkeypatch.setattr(admission, "base_digest", lambda folder: "a" * 64)
    (tmp_path / "start").mkdir()
    version = publish(tmp_path / "one", base_digest="a" * 64, lies=lies)
    engine.loaded = str(tmp_path / "start")
    live = live_on(engine, None, start=tmp_path / "start")
    if lies:
        with pytest.raises(EngineError, match="at the start the probe pairs differ"):
            asyncio.run(live.start(adapter=tmp_path / "one"))
        return
    monkeypatch.setattr(admission, "weights_identity", lambda folder: SERVED.weights)
    asyncio.run(live.start(adapter=tmp_path / "one"))
    asyncio.run(live.start(adapter=tmp_path / "one"))
    assert engine.events == [
        "check",
        "before",
        "load start with one",
        "reset",
        "at the start",
    ], "once"
    assert live.state.version == version
    back = asyncio.run(live.load(tmp_path / "start", SERVED.version))
    assert (back.path, engine.loaded) == (str(tmp_path / "start"),) * 2


def test_a_published_checkpoint_that_a_server_starts_on_comes_back(
    engine: FakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "weights_identity", lambda folder: SERVED.weights)
    start = publish(tmp_path / "start")
    version = publish(tmp_path / "one")
    engine.loaded = str(tmp_path / "start")
    live = live_on(engine, tmp_path, start=tmp_path / "start", version=start)

    async def run() -> None:
        await live.start(read_manifest(tmp_path / "start"))
        await live.load(tmp_path / "one", version)
        await live.load(tmp_path / "start", SERVED.version)

    asyncio.run(run())
    assert live.state.version == start, "by the same name as before"
    assert engine.loaded == str(tmp_path / "start")


def test_several_processes_know_the_same(engine: FakeEngine, tmp_path: Path) -> None:
    """Two of them here in one process: what they share is files."""
    shared = tmp_path / "shared"
    shared.mkdir()
    versions = {name: publish(tmp_path / name) for name in ("one", "two")}
    first, second = (live_on(engine, tmp_path, shared=shared) for _ in range(2))

    async def run() -> None:
        await asyncio.gather(first.start(), second.start())
        engine.hold = asyncio.Event()
        async with second.gate.reading(1):
            loading = asyncio.create_task(first.load(tmp_path / "one", versions["one"]))
            await asyncio.sleep(0.05)
            assert engine.events == ["check"], "a request to the other process is in flight"
        while "load one" not in engine.events:
            await asyncio.sleep(0.001)
        assert second.loading
        assert not second.fit
        with pytest.raises(GateTimeoutError):
            async with second.gate.reading(0.02):
                pass
        engine.hold.set()
        await loading
        async with second.gate.reading(1):
            assert second.fit
            assert second.state == first.state
            assert second.state.version == versions["one"]
        engine.hold = None
        # What a process goes back to is what is live, whoever has loaded it.
        engine.fails.add(str(tmp_path / "two"))
        with pytest.raises(EngineError, match="v-one is live again"):
            await second.load(tmp_path / "two", versions["two"])
        engine.fails.clear()
        await asyncio.gather(
            first.load(tmp_path / "two", versions["two"]),
            second.load(tmp_path / "one", versions["one"]),
        )

    asyncio.run(run())
    assert first.state == second.state
    assert engine.loaded == first.state.path
    assert {path.name for path in shared.iterdir()} == {"alone", "gate", "live.json", "turnstile"}


@pytest.mark.parametrize("lies", [False, True])
def test_a_record_that_cannot_be_written_ends_the_server(
    engine: FakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lies: bool
) -> None:
    """Where the load is refused, too: a moment later the disk is free, the engine is not whole."""
    (tmp_path / "shared").mkdir()
    version = publish(tmp_path / "one", lies=lies)
    condemned: list[bool] = []
    live = live_on(
        engine, tmp_path, shared=tmp_path / "shared", condemn=lambda: condemned.append(True)
    )

    write = SharedFolder.write

    def full(self: SharedFolder, record: LiveRecord) -> None:
        if "load one" in engine.events and not (lies and condemned):
            raise InputError("No space left on device")
        write(self, record)

    monkeypatch.setattr(SharedFolder, "write", full)
    with pytest.raises(InputError, match="No space left"):
        asyncio.run(live.load(tmp_path / "one", version))
    assert condemned == [True]
    assert lies or not live.fit, "nobody is served by what nobody knows"


def test_released_weights_come_back_verified(engine: FakeEngine, tmp_path: Path) -> None:
    version = publish(tmp_path / "one")
    engine.sleeps = True
    live = live_on(engine, tmp_path)

    async def run() -> None:
        await live.load(tmp_path / "one", version)
        engine.events.clear()
        async with live.gate.reading(1):
            releasing = asyncio.create_task(live.release())
            await asyncio.sleep(0.02)
            assert engine.events == [], "a request is in flight"
        await releasing
        assert engine.events == ["before", "sleep"]
        assert not live.fit
        for call in (live.release(), live.load(tmp_path / "one", version)):
            with pytest.raises(InputError, match="PUT /v1/weights brings them back"):
                await call
        await live.restore()
        await live.restore()

    asyncio.run(run())
    assert engine.events[2:] == ["wake up", "load one", "reset", "rolled-back"]
    assert live.fit
    assert live.state.version == version


def test_an_engine_whose_weights_do_not_come_back_is_ended(
    engine: FakeEngine, tmp_path: Path
) -> None:
    version, condemned = publish(tmp_path / "one"), []
    engine.sleeps = True
    live = live_on(engine, tmp_path, condemn=lambda: condemned.append(True))

    async def run() -> None:
        await live.load(tmp_path / "one", version)
        await live.release()
        engine.ignores.add(str(tmp_path / "one"))
        engine.loaded = "base"
        with pytest.raises(EngineError, match="log-probabilities differ"):
            await live.restore()

    asyncio.run(run())
    assert condemned
    assert not live.usable


def test_a_drafter_outlasts_a_sleep_or_there_is_none(engine: FakeEngine, tmp_path: Path) -> None:
    engine.sleeps, engine.drafts = True, "eagle3"
    live = live_on(engine, tmp_path)
    with pytest.raises(InputError, match=r"--sleep-preserve-parameter-names=draft\.\*"):
        asyncio.run(live.release())
    assert engine.events == []
    engine.kept = ("draft.*",)
    asyncio.run(live.release())
    asyncio.run(live.restore())
    engine.drafts, engine.kept = "ngram", ()
    asyncio.run(live.release())


def test_only_an_engine_started_for_it_sleeps(engine: FakeEngine, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--enable-sleep-mode"):
        asyncio.run(live_on(engine, tmp_path).release())
    assert engine.events == []
