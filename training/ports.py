"""Whether a server can listen on a port."""

from __future__ import annotations

import socket

from engine.errors import InputError


def check_port(port: int, host: str = "127.0.0.1") -> None:
    """Find out whether a server can listen there.

    Raises:
        InputError: If another process does already.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            problem = f"port {port} is taken ({error.strerror}); leave it out for a free one"
            raise InputError(problem, field="engine.port") from error
