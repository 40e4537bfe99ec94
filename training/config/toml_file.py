"""TOML files of configs: read, with the files that they name taken from their own folder."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

from engine.errors import InputError
from engine.unicode_text import read_text

_NO_FILES = ("auto", "bundled")


def read_toml(path: Path) -> dict[str, Any]:
    """The content of a TOML file.

    Raises:
        InputError: If it cannot be read, or is not TOML.
    """
    try:
        return tomllib.loads(read_text(path))
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"not valid TOML: {error}", file=path) from error


def put_setting(values: dict[str, Any], word: str) -> None:
    """Put `KEY=VALUE` into nested values; a dot in the key goes a level down.

    The value is a TOML value, or else taken as text: `share=0.5`, `direction=low`,
    `shares.easy=0.2`.

    Raises:
        InputError: If the word is of another form, or a section is given a value.
    """
    key, equals, text = (part.strip() for part in word.partition("="))
    *sections, field = key.split(".")
    if not (equals and field and all(sections)):
        raise InputError(f"expected KEY=VALUE, found {word!r}", field="--set")
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise InputError(f"{section} is no section", record=word, field="--set")
    try:
        values[field] = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        values[field] = text


def put_template(section: Any, folder: Path, source: object, field: str) -> None:
    """Put the text of a template in the place of its file's name, for a config says it all.

    Args:
        section: The section that describes prompts, if there is one.
        folder: Where the name starts from.
        source: Where the section stands, for messages.
        field: Its name there, for messages.

    Raises:
        InputError: If the file cannot be read, or a template is given as well.
    """
    named = section.pop("template_file", None) if isinstance(section, dict) else None
    if named is None:
        return
    field = f"{field}.template_file"
    if "template" in section:
        raise InputError("a template is given as well", file=source, field=field)
    try:
        section["template"] = read_text(folder / str(named))
    except InputError as error:
        raise InputError(str(error), file=source, field=field) from error
    section["template_name"] = str(named)


def resolve_paths(values: dict[str, Any], folder: Path) -> None:
    """Make the paths of a run's config absolute: pools, model, and files in words of commands.

    Args:
        values: Sections and fields, changed in place.
        folder: Where relative paths start from.
    """
    pool, model = values.get("pool"), values.get("model")
    if isinstance(pool, dict):
        for name in ("path", "held_out"):
            given = pool.get(name)
            if isinstance(given, str) and not (given in _NO_FILES or given.startswith("hub:")):
                pool[name] = _absolute(given, folder)
    if isinstance(model, dict) and isinstance(called := model.get("name"), str):
        from engine.weights.models import looks_like_path

        if looks_like_path(called) or (folder / called).is_dir():
            model["name"] = _absolute(called, folder)
    for section, field in (("train", "launcher"), ("engine", "flags")):
        inner = values.get(section)
        if isinstance(inner, dict) and isinstance(words := inner.get(field), list):
            inner[field] = [_word(word, folder) for word in words]
    train = values.get("train")
    if isinstance(train, dict) and isinstance(named := train.get("arguments"), dict):
        train["arguments"] = {name: _word(value, folder) for name, value in named.items()}


def _absolute(path: str, folder: Path) -> str:
    from engine.weights.models import expanded

    return os.path.abspath(folder / expanded(path)) if path else path  # noqa: PTH100


def _word(word: Any, folder: Path) -> Any:
    """A word with the file that it is, or that it names behind `=`; other words as they are."""
    if not isinstance(word, str):
        return word
    before, equals, last = word.rpartition("=")
    looks = "." in last or "/" in last
    return (
        f"{before}{equals}{_absolute(last, folder)}" if looks and _is_file(folder, last) else word
    )


def _is_file(folder: Path, name: str) -> bool:
    try:
        return (folder / name).is_file()
    except (OSError, ValueError):
        return False
