"""Which weights were live last: written by the server, read by whoever starts it again."""

from __future__ import annotations

from pathlib import Path

from engine.errors import InputError
from engine.files import read_json, write_bytes
from engine.tasks import Record
from engine.weights.models import looks_like_path

LIVE_FILE_VARIABLE = "JOSTLE_LIVE_FILE"
"""Environment variable: where the server writes down which weights are live. Unset: nowhere."""


class LastGood(Record):
    """The weights that were live and verified last.

    Attributes:
        version: Their version.
        path: Folder of the published checkpoint.
        base: For an adapter, the folder of the weights it was merged into.
        served_as: Name of the model that the server serves; None in files of older versions.
    """

    version: str
    path: str
    base: str | None = None
    served_as: str | None = None

    def check(self, file: Path) -> None:
        """That they are still there.

        Raises:
            InputError: If they are gone.
        """
        for folder in filter(None, (self.path, self.base)):
            if looks_like_path(folder) and not Path(folder).is_dir():
                problem = (
                    f"names the weights that were live last, {folder}, which are gone; without "
                    "this file it starts on its own model"
                )
                raise InputError(problem, file=file)

    @property
    def model(self) -> str:
        return self.base or self.path

    @property
    def adapter(self) -> Path | None:
        """What to merge into it before the first request; None: nothing."""
        return Path(self.path) if self.base else None


def write_last_good(file: Path, last: LastGood) -> None:
    """Writes the file whole or not at all.

    Raises:
        InputError: If it cannot be written.
    """
    write_bytes(file, last.model_dump_json().encode())


def read_last_good(file: Path) -> LastGood | None:
    """What the file says; None if no weights have been loaded yet.

    Raises:
        InputError: If there is a file that cannot be read or says something else.
    """
    problem = "does not say which weights were live"
    return read_json(file, LastGood, problem) if file.exists() else None
