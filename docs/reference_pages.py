"""Pages that are made of the code: commands, the config of a run, HTTP routes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engine.files import write_bytes

MUST = "*must be given*"


def write_reference(folder: Path) -> None:
    """Writes `cli.md`, `config.md` and `http.md` into a folder, those that changed."""
    folder.mkdir(exist_ok=True)
    pages = {"cli": command_page(), "config": config_page(), "http": http_page()}
    for name, lines in pages.items():
        path, text = folder / f"{name}.md", ("\n".join(lines) + "\n").encode()
        if not path.is_file() or path.read_bytes() != text:
            write_bytes(path, text)


def command_page() -> Iterator[str]:
    """All commands, with arguments and options, from the command line's own parser."""
    import typer.main

    from cli.main import app

    yield "# Commands"
    root: Any = typer.main.get_command(app)
    yield from _command(root, "jostle", 1)


def _command(
    command: Any, name: str, depth: int, told: dict[tuple[str, ...], str] | None = None
) -> Iterator[str]:
    """A command and those below it; `told` has the tables of those beside it, by name of theirs."""
    told = {} if told is None else told
    if depth > 1:
        yield f"\n{'#' * min(depth, 3)} {name}\n"
    yield _escaped(re.sub(r"\s*\n\s*", " ", command.help or "").strip())
    rows = tuple(row for row in map(_parameter, command.params) if row)
    same = told.setdefault(rows, name)
    if same != name and len(rows) > 1:
        yield f"\nIts options are those of [{same}](#{same.replace(' ', '-')})."
    elif rows:
        yield "\n| | | default |\n| --- | --- | --- |"
        yield from rows
    below: dict[tuple[str, ...], str] = {}
    for child_name, child in getattr(command, "commands", {}).items():
        yield from _command(child, f"{name} {child_name}", depth + 1, below)


def _parameter(parameter: Any) -> str:
    if parameter.hidden or parameter.name in ("help", "install_completion", "show_completion"):
        return ""
    is_argument = "Argument" in type(parameter).__name__
    options = [*parameter.opts, *parameter.secondary_opts]
    names = [parameter.metavar or parameter.name.upper()] if is_argument else options
    shown, default = parameter.show_default, parameter.default
    if parameter.required:
        told = MUST
    elif isinstance(shown, str):
        told = _escaped(shown)
    else:
        told = "" if not shown or default is None or default is False else _escaped(str(default))
    if parameter.envvar:
        told = ", ".join(filter(None, [told, f"`{parameter.envvar}`"]))
    spelled = ", ".join(f"`{name}`" for name in names)
    return f"| {spelled} | {_escaped(parameter.help or '')} | {told} |"


def config_page() -> Iterator[str]:
    """The commented config, a heading a section."""
    from training.config.config_file import config_template

    yield "# Config of a run\n"
    yield "What `jostle config init` writes: every field, its default and what it means.\n"
    yield "```toml"
    for line in config_template().splitlines():
        if line.startswith("### "):
            yield f"```\n\n## {line[4:]}\n\n```toml"
        else:
            yield line
    yield "```"


def http_page() -> Iterator[str]:
    """Our routes and what goes through them, from the server's own OpenAPI."""
    from fastapi import FastAPI

    from engine.server.http import completion_route, routes

    app = FastAPI()
    app.include_router(routes.router)
    app.include_router(completion_route.router)
    api = app.openapi()
    yield "# HTTP routes\n"
    yield "Beside vLLM's own. Made of the server's OpenAPI, which it has at `/openapi.json`."
    for path, methods in api["paths"].items():
        for method, route in methods.items():
            yield from _route(f"{method.upper()} {path}", route)
    yield "\n## What goes through them"
    for name, schema in sorted((api["components"]["schemas"] | dict(_inline(api))).items()):
        yield from _record(name, schema)


def _route(title: str, route: dict[str, Any]) -> Iterator[str]:
    yield f"\n## {title}\n"
    yield _escaped(" ".join(route.get("description", route["summary"]).split())) + "\n"
    body = route.get("requestBody", {}).get("content", {}).get("application/json", {})
    if body:
        yield f"Takes {_kind(body['schema'])}.\n"
    yield "| status | answer | |\n| --- | --- | --- |"
    for status, answer in route["responses"].items():
        kinds = (_kind(each.get("schema", {})) for each in answer.get("content", {}).values())
        yield f"| {status} | {_escaped(answer['description'])} | {', '.join(filter(None, kinds))} |"


def _record(name: str, schema: dict[str, Any]) -> Iterator[str]:
    yield f"\n({name.lower()})=\n### {name}\n"
    yield _escaped(schema.get("description", "")) + "\n"
    fields = schema.get("properties", {})
    if fields:
        yield "| field | is | default | |\n| --- | --- | --- | --- |"
    for field, value in fields.items():
        default = f"`{value['default']!r}`" if "default" in value else ""
        told = MUST if field in schema.get("required", ()) else _escaped(default)
        note = _escaped(value.get("description", ""))
        yield f"| `{field}` | {_kind(value)} | {told} | {note} |"


def _inline(part: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Records that stand in an answer itself, by name."""
    if isinstance(part, dict):
        if "properties" in part and "title" in part:
            yield part["title"], part
        part = list(part.values())
    if isinstance(part, list):
        for each in part:
            yield from _inline(each)


def _kind(schema: dict[str, Any]) -> str:
    """A type in words; a schema of its own is a link."""
    if "$ref" in schema or "properties" in schema:
        name = schema.get("$ref", schema.get("title", "")).rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    for several in ("anyOf", "oneOf", "allOf"):
        if several in schema:
            return " or ".join(dict.fromkeys(_kind(each) for each in schema[several]))
    if "const" in schema:
        return f"`{schema['const']!r}`"
    if "enum" in schema:
        return ", ".join(f"`{each!r}`" for each in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_kind(schema.get('items', {})) or 'anything'}"
    return str(schema.get("type", ""))


def _escaped(text: str) -> str:
    """Text for a cell of a table."""
    return text.replace("|", "\\|").replace("<", "\\<").replace("[", "\\[")
