"""Config files as people write them: a commented template, and overrides from the command line."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from pathlib import Path
from types import UnionType
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from engine.schema_text import field_notes, summary
from training.config.run_config import RunConfig, complete, load_values, parse_config
from training.config.toml_file import put_setting


def read_config(path: Path, overrides: Sequence[str] = ()) -> RunConfig:
    """A config file with values of the command line put in.

    Args:
        overrides: `section.field=value`; the value as TOML has it, or else as plain text.

    Raises:
        InputError: If the file cannot be read, is not TOML, or the result does not follow the
            schema.
    """
    values = load_values(path)
    for override in overrides:
        put_setting(values, override)
    complete(values, Path.cwd(), "--set")
    return parse_config(values, f"{path} with --set" if overrides else path)


def config_template() -> str:
    """A config file with every field, its default and what it means; unset fields are comments."""
    lines = [
        "# A run of jostle: start it with `jostle run FILE`.",
        "# Every field may be left out; what stands here is its default.",
        "# Relative paths start from this file's folder.",
        "",
    ]
    sections = []
    notes = field_notes(RunConfig)
    for name, field in RunConfig.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            sections.append((name, field.annotation))
        else:
            lines += [*_comment(notes[name]), _assignment(name, field.default), ""]
    for name, section in sections:
        lines += _section(name, section, notes.get(name, ""))
    return "\n".join(lines).rstrip() + "\n"


def _section(path: str, model: type[BaseModel], note: str, hidden: bool = False) -> list[str]:
    """The lines of a section and of the sections in it."""
    mark = "# " if hidden else ""
    lines = ["#" * 3 + f" {path}", *_comment(summary(model) or note), f"{mark}[{path}]"]
    notes = field_notes(model)
    inner: list[str] = []
    for name, field in model.model_fields.items():
        nested = _nested(field)
        if nested is not None:
            absent = field.default is None
            inner += _section(f"{path}.{name}", nested, notes.get(name, ""), hidden=absent)
        elif isinstance(default := _default(field), dict):
            inner += [*_comment(notes.get(name, "")), f"[{path}.{name}]", ""]
        else:
            shown = _assignment(name, default)
            lines += _comment(notes.get(name, ""))
            lines.append(shown if shown.startswith("#") else f"{mark}{shown}")
    return [*lines, "", *inner]


def _nested(field: FieldInfo) -> type[BaseModel] | None:
    """The record that a field holds, if it holds one; of several kinds, that of the default."""
    if isinstance(field.default, BaseModel):
        return type(field.default)
    kinds = get_args(field.annotation) if isinstance(field.annotation, UnionType) else ()
    for kind in (field.annotation, *kinds):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None


def _default(field: FieldInfo) -> Any:
    """What a field is when it is left out; none where it must be given."""
    return None if field.is_required() else field.get_default(call_default_factory=True)


def _assignment(name: str, default: Any) -> str:
    if default is None:
        return f"# {name} ="
    # For plain values and lists of them, JSON is TOML.
    return f"{name} = {json.dumps(default)}"


def _comment(text: str) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(text, 92)]
