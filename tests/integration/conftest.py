"""One real server for all tests that need one: starting it is most of what they cost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.client import EngineClient
from engine.process.engine_process import EngineProcess
from engine.weights.models import resolve_model
from tests.integration.reference import Reference, published_change


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
        process.wait_ready(300)
        yield process


@pytest.fixture(scope="session")
def published_base(base: Reference, weights_root: Path) -> tuple[Path, str]:
    """Folder and version of a checkpoint that holds the bundled model unchanged."""
    checkpoint, manifest, _ = published_change(base, weights_root, seed=0, scale=0.0)
    return checkpoint, manifest.version


@pytest.fixture
def client(server: EngineProcess, published_base: tuple[Path, str]) -> Iterator[EngineClient]:
    """A client of the server, whose live weights are the bundled model's."""
    with EngineClient(server.url) as client:
        weights = client.weights()
        if not weights.is_base and weights.version != published_base[1]:
            client.load_weights(*published_base)
        yield client


@pytest.fixture(scope="session")
def base(model_folder: Path) -> Reference:
    """The bundled model in transformers."""
    return Reference(model_folder)
