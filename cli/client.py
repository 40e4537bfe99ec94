"""How commands reach a running engine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from engine.client import EngineClient

EngineUrl = Annotated[str, typer.Option(help="URL of the running engine, without /v1.")]
ApiKey = Annotated[
    str | None,
    typer.Option(help="Key of that engine.", show_default="JOSTLE_API_KEY, or the server's own"),
]
AdminKey = Annotated[
    str | None,
    typer.Option(help="Its key for loading weights.", show_default="JOSTLE_ADMIN_KEY"),
]


def connect(
    url: str,
    api_key: str | None = None,
    admin_key: str | None = None,
    paraphrases: Path | None = None,
) -> EngineClient:
    """A client with the keys that are given, or else with those of the environment.

    Raises:
        InputError: If the environment names a key twice, or a file that cannot be read.
    """
    from engine.client import EngineClient
    from engine.keys import client_keys

    keys = client_keys(os.environ, api_key, admin_key)
    return EngineClient(url, keys.api, admin_key=keys.admin, paraphrases=paraphrases)
