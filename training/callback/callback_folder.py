"""The folder of one callback: checkpoints appear in it whole, and leave it whole."""

from __future__ import annotations

import errno
import hashlib
import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from engine.errors import InputError
from engine.weights.manifest import check_files, read_manifest
from engine.weights.publishing import is_being_written


class CallbackFolder:
    """Checkpoints of one callback, what earlier trainings left of them included.

    Args:
        parent: Where several callbacks have their folders.
        urls: The engines of this one, which name its folder.
    """

    def __init__(self, parent: Path, urls: Iterable[str]) -> None:
        digest = hashlib.sha256("\n".join(sorted(urls)).encode()).hexdigest()
        self.path = parent / digest[:8]
        # Hidden are those that a killed process had not yet finished, or was about to remove.
        left = (each for each in self.path.glob(".step-*") if not is_being_written(each))
        self._held = {*self.path.glob("step-*"), *left}

    def place(self, part: Path, version: str) -> Path:
        """Renames a sealed folder to its version, unless that is there and whole already.

        Raises:
            OSError: If it cannot be renamed.
        """
        checkpoint = self.path / version
        if checkpoint.exists():
            if _is_whole(checkpoint):
                return checkpoint
            _remove(checkpoint)
        try:
            part.rename(checkpoint)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
            return checkpoint  # somebody else has just made it, file for file
        self._held.add(checkpoint)
        return checkpoint

    def others(self, names: Iterable[str]) -> set[Path]:
        """What it holds beside these."""
        kept = set(names)
        return {each for each in self._held if each.name not in kept}

    def remove(self, checkpoints: Iterable[Path]) -> None:
        """Removes some of what it holds."""
        for each in checkpoints:
            _remove(each)
            self._held.discard(each)


def _is_whole(checkpoint: Path) -> bool:
    try:
        check_files(checkpoint, read_manifest(checkpoint))
    except (InputError, OSError):
        return False
    return True


def _remove(folder: Path) -> None:
    """Renames before it removes, so that nobody finds half of a checkpoint."""
    going = folder
    if not folder.name.startswith("."):
        going = folder.with_name(f".{folder.name}.gone")
        shutil.rmtree(going, ignore_errors=True)
        with suppress(OSError):  # gone already
            folder.rename(going)
    shutil.rmtree(going, ignore_errors=True)
