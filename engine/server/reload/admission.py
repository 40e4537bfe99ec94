"""Which weights may become live, found out from files alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import InputError
from engine.protocol.weights_state import WeightsKind, WeightsState
from engine.weights.adapter import ADAPTER_CONFIG
from engine.weights.adapter_check import base_digest, check_adapter
from engine.weights.checkpoint_check import check_checkpoint, check_weights
from engine.weights.identity import weights_identity
from engine.weights.manifest import MANIFEST_NAME, Manifest, read_manifest
from engine.weights.publishing import published_files, unverified_version

if TYPE_CHECKING:
    from vllm.config import VllmConfig


class Admission:
    """Checks checkpoints and adapters before anything is touched.

    Args:
        root: Folder below which they may lie; None: none may be loaded.
        start: Folder of the weights the server was started with, or a hub id without a local copy.
    """

    def __init__(self, root: Path | None, start: Path) -> None:
        self._root = root.resolve() if root else None
        self._start = start
        self._admitted: dict[str, tuple[int, int, int]] = {}

    def check(
        self, path: Path, version: str, kind: WeightsKind | None, live: WeightsState
    ) -> tuple[WeightsState, Manifest]:
        """What will be live once it is loaded, and the manifest that will have to be reproduced.

        Args:
            path: Folder of the checkpoint or adapter.
            version: The version that its manifest must name.
            kind: The kind that its manifest must name; None: any.

        Raises:
            InputError: If it must not be loaded.
        """
        with _readable():
            folder = self._allowed(path)
            manifest = read_manifest(folder)
            if manifest.version != version:
                raise InputError(
                    f"holds version {manifest.version}, not {version}", file=folder, field="version"
                )
            if kind not in (None, manifest.kind):
                raise InputError(f"is {manifest.kind!r}, not {kind!r}", file=folder, field="kind")
            return self.check_files(folder, manifest, live), manifest

    def check_unpublished(
        self, path: Path, version: str | None, kind: WeightsKind | None, live: WeightsState
    ) -> WeightsState:
        """The same for all weights of a model in a folder without a manifest.

        Raises:
            InputError: If it must not be loaded, or holds another version or kind.
        """
        with _readable():
            folder = self._allowed(path)
            if (folder / MANIFEST_NAME).exists():
                raise InputError("is published; load it by its version", file=folder)
            if kind == "lora" or (folder / ADAPTER_CONFIG).exists():
                problem = f"is an adapter; jostle publish {folder} makes it loadable"
                raise InputError(problem, file=folder, field="kind")
            published_files(folder)
            self._admitted = _written(folder)
            check_weights(folder, self._comparable(live))
            found = unverified_version(folder)
            if version not in (None, found):
                raise InputError(f"holds {found}, not {version}", file=folder, field="version")
            return WeightsState(
                version=found, path=str(folder), verified="files", served=live.served
            )

    def _comparable(self, live: WeightsState) -> Path:
        """What unpublished weights are compared with: nothing else says that they are whole."""
        for folder in (Path(live.base or live.path), self._start):
            if folder.is_dir():
                return folder
        raise InputError(
            f"neither {live.path}, which is live, nor {self._start} is there to compare it with; "
            "publish it",
            field="path",
        )

    def check_unchanged(self, loaded: WeightsState) -> None:
        """`InputError` if an unpublished folder was written since it was admitted."""
        if _written(Path(loaded.path)) != self._admitted:
            raise InputError("was written while it was loaded", file=loaded.path)

    def check_files(self, folder: Path, manifest: Manifest, live: WeightsState) -> WeightsState:
        """As `check`, wherever the folder lies and whatever version it holds."""
        live_folder = Path(live.base or live.path)
        if manifest.kind == "full":
            check_checkpoint(folder, manifest, live_folder)
            return WeightsState(
                version=manifest.version,
                path=str(folder),
                verified="probes",
                served=live.served,
            )
        base = self._find_base(folder, manifest, live_folder)
        check_adapter(folder, manifest, base)
        return WeightsState(
            version=manifest.version,
            path=str(folder),
            kind="lora",
            base=str(base),
            verified="probes",
            served=live.served,
        )

    def check_start(self, path: Path, live: WeightsState) -> None:
        """That the weights which the server was started with are still there.

        Args:
            path: Their folder, or what the server calls them.

        Raises:
            InputError: If it is another one, or no longer holds them.
        """
        if "\0" in str(path):
            raise InputError("holds a NUL character", field="path")
        served, start = live.served, str(self._start)
        if str(path) != served.model and os.path.realpath(path) != os.path.realpath(self._start):
            problem = f"{served.version} lies in {start}"
            raise InputError(problem, file=path, field="path")
        if weights_identity(self._start) != served.weights:
            problem = "no longer holds what the server was started with"
            raise InputError(problem, file=start, field="path")

    def _allowed(self, path: Path) -> Path:
        """The folder, links followed: a link below the root may point out of it."""
        if "\0" in str(path):
            raise InputError("holds a NUL character", field="path")
        if not path.is_absolute():
            raise InputError("is not absolute", file=path, field="path")
        folder = path.resolve()
        if self._root is None:
            raise InputError(
                "the server was started without a weights root", file=path, field="path"
            )
        if not folder.is_relative_to(self._root):
            raise InputError(f"lies outside the weights root {self._root}", file=path, field="path")
        if not folder.is_dir():
            raise InputError("no such folder", file=path, field="path")
        return folder

    def _find_base(self, folder: Path, manifest: Manifest, live: Path) -> Path:
        """The weights an adapter was trained on: the live ones, or those of the start."""
        for base in (live, self._start):
            if base.is_dir() and base_digest(base) == manifest.base_digest:
                return base
        raise InputError(
            f"was trained on other weights ({manifest.base_model}) than those that are live or "
            "that the server was started with",
            file=folder,
            field="base_digest",
        )


def _written(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Of each file of a folder what changes when it is written."""
    return {
        each.name: (each.stat().st_size, each.stat().st_mtime_ns, each.stat().st_ino)
        for each in folder.iterdir()
    }


@contextmanager
def _readable() -> Iterator[None]:
    """What cannot be read is the fault of the path."""
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        # A name too long, a circle of links (RuntimeError), no leave to read, no UTF-8.
        raise InputError(f"cannot be read: {error}", field="path") from error


_NO_DRAFTER = ("ngram", "ngram_gpu", "suffix")
"""Speculative methods that draft without weights."""


def check_engine(config: VllmConfig) -> None:
    """`InputError` if what an engine has loaded cannot be loaded again."""
    from vllm.model_executor.model_loader import get_model_loader

    loader = config.load_config
    if config.parallel_config.enable_eplb:  # vLLM loads them to where they were at the start
        what = "experts that --enable-eplb has moved"
    elif not hasattr(get_model_loader(loader), "get_all_weights"):
        what = f"what was loaded by --load-format {loader.load_format}"
    else:
        return
    raise InputError(f"{what} cannot be loaded again; start a server on the new weights")


def check_sleeper(config: VllmConfig) -> None:
    """`InputError` if an engine does not sleep, or would lose weights by it."""
    speculative, model = config.speculative_config, config.model_config
    if not model.enable_sleep_mode:
        raise InputError("memory is freed by a server started with -- --enable-sleep-mode")
    kept = "draft.*" in model.sleep_preserve_parameter_names
    if speculative is not None and speculative.method not in _NO_DRAFTER and not kept:
        # A sleep forgets all weights, and only the model's own are loaded again.
        raise InputError(
            "the drafter of --speculative-config outlasts no sleep without "
            "--sleep-preserve-parameter-names=draft.*"
        )
