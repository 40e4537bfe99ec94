"""What the API processes of one server know of the live weights, and how they know the same."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Self

from engine.errors import EngineError
from engine.files import cannot_write
from engine.protocol.weights_state import WeightsState
from engine.server.reload.gate import Gate
from engine.server.reload.process_gate import ProcessGate
from engine.tasks import Record
from engine.weights.manifest import Manifest, Probe

SHARED_FOLDER_VARIABLE = "JOSTLE_SHARED_FOLDER"
"""Environment variable: the folder that several API processes share. Unset: there is only one."""


class Proof(Record):
    """How to prove that weights are live.

    Attributes:
        dtype: Data type that the probes were computed in.
        probes: Pairs with the log-probabilities that these weights give them.
        vouched: Whether somebody knows these; if not, the pairs alone count.
    """

    dtype: str
    probes: tuple[Probe, ...]
    vouched: bool = True

    @classmethod
    def of(cls, manifest: Manifest) -> Self:
        """By the trainer's word."""
        return cls(dtype=manifest.dtype, probes=manifest.probes)


class LiveRecord(Record):
    """The live weights. Written only by the process that holds the gate for writing.

    Attributes:
        state: Version and path.
        usable: Whether the engine can score with them; if not, it must end.
        loading: Whether others are being loaded. Found by somebody who has passed the gate, the
            process that was loading them is dead, and nobody knows what the engine holds.
        of_start: Proof of the weights of the start: their manifest, or what the engine gave the
            probes of the first others that were loaded. None where nothing is known.
    """

    state: WeightsState
    usable: bool = True
    loading: bool = False
    of_start: Proof | None = None


class Memory:
    """The gate and the record of a server with one API process.

    Args:
        first: What holds until something is written.
    """

    def __init__(self, first: LiveRecord) -> None:
        self.gate = Gate()
        self._record = first
        self._begun = False

    @property
    def begun(self) -> bool:
        """Whether anything has been written, by any process of the server."""
        return self._begun

    def read(self) -> LiveRecord:
        """The record as it is now."""
        return self._record

    def write(self, record: LiveRecord) -> None:
        """Replaces the record."""
        self._record, self._begun = record, True


class SharedFolder:
    """The same for several API processes.

    Args:
        folder: A folder of the server's own, on a local file system.
        first: What holds until something is written.
    """

    def __init__(self, folder: Path, first: LiveRecord) -> None:
        self.gate = ProcessGate(folder)
        self._file = folder / "live.json"
        self._first = first
        self._known = False

    @property
    def begun(self) -> bool:
        """Whether anything has been written, by any process of the server."""
        return self._file.exists()

    def read(self) -> LiveRecord:
        """The record as it is now. Takes some microseconds; within the gate it does not change.

        Raises:
            EngineError: If somebody has removed the file.
        """
        try:
            record = LiveRecord.model_validate_json(self._file.read_bytes())
        except FileNotFoundError:
            if self._known:  # what was live at the start may be long gone
                raise EngineError(f"{self._file} was removed; start the server again") from None
            return self._first
        self._known = True
        return record

    def write(self, record: LiveRecord) -> None:
        """Replaces the record at once and for all; nobody reads half of one.

        Raises:
            InputError: If it cannot be written.
        """
        part = self._file.with_suffix(f".{os.getpid()}")
        try:  # not synced: it ends with the server, whose event loop would wait for the disk
            part.write_bytes(record.model_dump_json().encode())
            part.replace(self._file)
        except OSError as error:
            raise cannot_write(self._file, error) from error
