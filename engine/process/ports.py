"""Whether a server can listen at an address, found out by trying."""

from __future__ import annotations

import errno
import socket
from pathlib import Path

from engine.errors import InputError


def check_port(port: int, host: str = "127.0.0.1", *, field: str = "--port") -> None:
    """Finds out whether a server can listen there.

    Raises:
        InputError: If another process does already, or the address is none of this machine's.
    """
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise InputError(f"port {port} of {host} is taken", field=field) from error
            problem = f"cannot listen on port {port} of {host!r}: {error.strerror}"
            raise InputError(problem, field=field) from error


def check_socket(path: Path) -> None:
    """The same for a UNIX socket.

    Raises:
        InputError: If there is a file already, a socket that nobody listens at included, or none
            can be made.
    """
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.bind(str(path))
        except OSError as error:
            problem = f"cannot listen there: {error}"
            raise InputError(problem, file=path, field="--uds") from error
    path.unlink()
