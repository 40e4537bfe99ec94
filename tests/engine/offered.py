"""An installed package that offers something of its own."""

from importlib.metadata import EntryPoint
from typing import Any

import pytest

from engine.registry import Registry


def offer(monkeypatch: pytest.MonkeyPatch, registry: Registry[Any], offered: object) -> None:
    """Installs an entry point: of an object, or of where there is none, `package.module:NAME`."""
    monkeypatch.setattr("engine.registry.OFFERED", offered, raising=False)
    value = offered if isinstance(offered, str) else "engine.registry:OFFERED"
    point = EntryPoint(name="own", value=value, group=registry.group)
    monkeypatch.setattr(
        "engine.registry.entry_points", lambda group: [point] if group == registry.group else []
    )
    monkeypatch.setattr(registry, "_found", None)
