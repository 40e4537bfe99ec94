"""The two keys of a server: where they come from, and when there must be some.

A key is given in an environment variable or in a file that one names, never as an argument: the
arguments of a process are for everybody on the machine to read.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from engine.errors import InputError

API_KEY_VARIABLE = "VLLM_API_KEY"
"""Environment variable of the key that every route wants; vLLM's own name for it."""

API_KEY_FILE_VARIABLE = "JOSTLE_API_KEY_FILE"
"""Environment variable that names a file holding the same key."""

ADMIN_KEY_VARIABLE = "JOSTLE_ADMIN_KEY"
"""Environment variable of the second key, which the routes that change the server want on top."""

ADMIN_KEY_FILE_VARIABLE = "JOSTLE_ADMIN_KEY_FILE"
"""Environment variable that names a file holding the second key."""

CLIENT_KEY_VARIABLE = "JOSTLE_API_KEY"
"""Environment variable of the key that our clients send, where it is not the server's own."""

ADMIN_HEADER = "X-Jostle-Admin-Key"
"""Header that carries the second key; the first one travels as bearer token."""

_DANGEROUS_VARIABLES = ("VLLM_SERVER_DEV_MODE", "VLLM_ALLOW_RUNTIME_LORA_UPDATING")


@dataclass(frozen=True, slots=True)
class Keys:
    """What a server compares with: sha256 digests, so that no key stands in memory or in a repr.

    Attributes:
        api: Digests of the keys for every route; empty: none is asked for.
        admin: Digest of the key for routes that change the server; None: none was given.
    """

    api: tuple[bytes, ...] = ()
    admin: bytes | None = None

    def opens(self, key: str) -> bool:
        """Whether a key opens the ordinary routes. Takes equally long for every wrong key."""
        given, opened = _digest(key), False
        for expected in self.api:
            opened |= hmac.compare_digest(given, expected)
        return opened

    def opens_admin(self, key: str) -> bool:
        """Whether a key opens the routes that change the server."""
        return self.admin is not None and hmac.compare_digest(_digest(key), self.admin)


def read_key(environ: Mapping[str, str], variable: str, file_variable: str) -> str | None:
    """A key from its variable or from the file the other variable names; None if there is none.

    Raises:
        InputError: If both are set, the file cannot be read or is empty, or no header can carry it.
    """
    value, file = environ.get(variable), environ.get(file_variable)
    if value and file:
        raise InputError(f"is set, and {file_variable} too; leave one out", field=variable)
    if not file:
        return sendable(value or None, variable)
    try:
        key = Path(file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot be read: {error}", file=file, field=file_variable) from error
    if not key:
        raise InputError("is empty", file=file, field=file_variable)
    return sendable(key, file_variable)


@dataclass(frozen=True, slots=True)
class ClientKeys:
    """What a client sends; kept out of its repr.

    Attributes:
        api: Key for every route, if one is known.
        admin: Key for routes that change the server.
    """

    api: str | None = field(default=None, repr=False)
    admin: str | None = field(default=None, repr=False)


def client_keys(
    environ: Mapping[str, str], api: str | None = None, admin: str | None = None
) -> ClientKeys:
    """The keys of a client: those given, or else those of the environment.

    Args:
        environ: Environment variables: `JOSTLE_API_KEY`, or else the server's own, see `read_key`.
        api: Key for every route.
        admin: Key for routes that change the server.

    Raises:
        InputError: As `read_key`.
    """
    return ClientKeys(
        sendable(api, "--api-key")
        or sendable(environ.get(CLIENT_KEY_VARIABLE), CLIENT_KEY_VARIABLE)
        or read_key(environ, API_KEY_VARIABLE, API_KEY_FILE_VARIABLE),
        sendable(admin, "--admin-key")
        or read_key(environ, ADMIN_KEY_VARIABLE, ADMIN_KEY_FILE_VARIABLE),
    )


def read_keys(environ: Mapping[str, str], arguments: Iterable[str] = ()) -> Keys:
    """The keys a server was given.

    Args:
        arguments: Keys that vLLM itself was given as arguments; they win over the variable there,
            and so they do here.

    Raises:
        InputError: As `read_key`, or if the two keys are the same.
    """
    api = read_key(environ, API_KEY_VARIABLE, API_KEY_FILE_VARIABLE)
    admin = read_key(environ, ADMIN_KEY_VARIABLE, ADMIN_KEY_FILE_VARIABLE)
    given = tuple(key for key in arguments if key) or ((api,) if api else ())
    if admin in given:
        raise InputError(f"is the same as {API_KEY_VARIABLE}", field=ADMIN_KEY_VARIABLE)
    return Keys(
        api=tuple(_digest(key) for key in given), admin=None if admin is None else _digest(admin)
    )


def check_exposure(host: str | None, keys: Keys, environ: Mapping[str, str]) -> None:
    """Nobody serves a model to a network by accident, or with vLLM's routes for developers on.

    Args:
        host: The address to listen on; None or empty means every address.

    Raises:
        InputError: If the address is no loopback address and there is no API key, or a variable
            switches on routes that run or load anything.
    """
    for variable in _DANGEROUS_VARIABLES:
        if environ.get(variable, "0").strip() not in ("", "0"):
            raise InputError(
                "opens routes that let anybody load or run anything; unset it", field=variable
            )
    if not keys.api and not is_loopback(host):
        raise InputError(
            f"listening on {host or 'every address'} needs an API key in the environment variable "
            f"{API_KEY_VARIABLE} or in a file named by {API_KEY_FILE_VARIABLE}",
            field="--host",
        )


def key_as_argument() -> InputError:
    """The error of a key that was given as an argument."""
    return InputError(
        f"shows up in the process list; set the environment variable {API_KEY_VARIABLE}",
        field="--api-key",
    )


def is_loopback(host: str | None) -> bool:
    """Whether only this machine can reach the address; false for a name that is not `localhost`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


def sendable(key: str | None, field: str) -> str | None:
    """The key.

    Raises:
        InputError: If no header can carry it; it does not tell the text.
    """
    if key and not (key.isascii() and key.isprintable() and key == key.strip()):
        problem = "is no key: letters, digits and signs of ASCII, no space or line end around them"
        raise InputError(problem, field=field)
    return key


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
