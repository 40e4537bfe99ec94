"""Two real servers for all tests that need one: starting them is most of what they cost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from engine.client import EngineClient
from engine.process.engine_process import EngineProcess
from engine.weights.live_file import LastGood, read_last_good, write_last_good
from engine.weights.models import resolve_model
from tests.integration.processes import MARK_VARIABLE
from tests.integration.reference import Reference, published_adapter
from training.run.live_engine import go_back


@pytest.fixture(scope="session")
def model_folder() -> Path:
    """The bundled model, as a folder."""
    folder = Path(resolve_model("smollm2-135m"))
    assert folder.is_dir()
    return folder


@pytest.fixture(scope="session")
def weights_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the server may load checkpoints from."""
    return tmp_path_factory.mktemp("weights")


@pytest.fixture(scope="session")
def server(
    model_folder: Path, weights_root: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[EngineProcess]:
    """A real server on the bundled model."""
    log_file = tmp_path_factory.mktemp("engine") / "engine.log"
    with EngineProcess.start(
        str(model_folder),
        weights_root=weights_root,
        log_file=log_file,
        extra_args=["--trust-request-chat-template"],
    ) as process:
        process.wait_ready(600)
        yield process


@dataclass
class Second:
    """A server with two API processes before one engine, started as after a crash.

    Attributes:
        engine: The server.
        log: What it writes.
        mark: What all its processes have in their environment.
        adapter: Folder of the adapter that it started with.
        version: The adapter's version.
        merged: The model with that adapter in transformers.
    """

    engine: EngineProcess
    log: Path
    mark: str
    adapter: Path
    version: str
    merged: Reference


@pytest.fixture(scope="session")
def second(
    base: Reference, weights_root: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Second]:
    """Another server; `test_fleet` kills it, the last to need it."""
    folder = tmp_path_factory.mktemp("second-engine")
    adapter, manifest, merged = published_adapter(base, weights_root, 23)
    live_file, log = folder / "live.json", folder / "engine.log"
    write_last_good(
        live_file, LastGood(version=manifest.version, path=str(adapter), base=str(base.folder))
    )
    last = read_last_good(live_file)
    assert last is not None
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv(MARK_VARIABLE, folder.name)
        process = EngineProcess.start(
            last.model,
            weights_root=weights_root,
            log_file=log,
            adapter=last.adapter,
            extra_args=["--api-server-count=2"],
        )
    with process:
        process.wait_ready(600)
        yield Second(process, log, folder.name, adapter, manifest.version, merged)


@pytest.fixture
def client(server: EngineProcess) -> Iterator[EngineClient]:
    """A client of the server, whose live weights are the bundled model's."""
    with EngineClient(server.url) as client:
        go_back(client)
        yield client


@pytest.fixture(scope="session")
def base(model_folder: Path) -> Reference:
    """The bundled model in transformers."""
    return Reference(model_folder)
