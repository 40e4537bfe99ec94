"""The house as its imports draw it: who may ask whom, no circle, no name twice."""

import ast
import sys
from collections import Counter
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROOMS = ("engine", "training", "cli")
FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for room in ROOMS
    for path in sorted((ROOT / room).rglob("*.py"))
}
LONGEST_FUNCTION = 60
LONGEST_FILE = 375


def folder(module: str) -> str:
    return module if FILES[module].name == "__init__.py" else module.rpartition(".")[0]


def imports(module: str, *, at_start: bool = False) -> set[str]:
    """The modules of the house that a module imports: wherever in its file, or when it starts."""
    found = imported(module, at_start=at_start)
    return {name for name in found if name in FILES and name != module}


def imported(module: str, *, at_start: bool = False) -> set[str]:
    """The same, those of other packages too."""
    found: set[str] = set()
    tree = ast.parse(FILES[module].read_text())
    for node in tree.body if at_start else ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            named = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in FILES else str(node.module) for name in named}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


ARROWS = {module: imports(module) for module in FILES}


def test_each_room_asks_only_those_below() -> None:
    wrong = [
        f"{module} imports {other}"
        for module, others in ARROWS.items()
        for other in others
        if ROOMS.index(other.partition(".")[0]) > ROOMS.index(module.partition(".")[0])
    ]
    assert not wrong


def test_no_circle_of_folders() -> None:
    graph: dict[str, set[str]] = {}
    for module, others in ARROWS.items():
        if module == "engine":  # the front door leads inside
            continue
        ends = {folder(other) for other in others}
        graph.setdefault(folder(module), set()).update(ends - {folder(module)})
    TopologicalSorter(graph).prepare()  # CycleError names the circle


def test_no_circle_of_modules() -> None:
    TopologicalSorter({module: imports(module, at_start=True) for module in FILES}).prepare()


def test_no_file_name_twice() -> None:
    names = Counter(path.name for path in FILES.values() if not path.name.startswith("__"))
    assert [name for name, times in names.items() if times > 1] == []


def test_no_class_name_twice() -> None:
    """Functions may do in two rooms what one word says; a class is a noun."""
    names = Counter(
        node.name
        for path in FILES.values()
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    twice = {name for name, times in names.items() if times > 1}
    assert twice <= {"Sample"}  # a row of a table, and what a caller gets


def test_files_fit_a_few_screens() -> None:
    """About 250 lines; what is longer is one list of fields, of routes or of patches."""
    long = {module for module, path in FILES.items() if len(path.open().readlines()) > LONGEST_FILE}
    assert not long


def test_nothing_heavy_is_imported_by_help() -> None:
    """What `cli.main` imports when it starts, and all that those import; a command is run by
    `tests/cli/test_startup.py`.
    """
    seen, found = set(), ["cli.main"]
    while found:
        module = found.pop()
        if module not in seen:
            seen.add(module)
            found += imports(module, at_start=True)
    assert {module.partition(".")[0] for module in seen} <= {"cli", "engine"}
    outside = {
        name.partition(".")[0]
        for module in seen
        for name in imported(module, at_start=True) - FILES.keys()
    }
    assert outside - sys.stdlib_module_names <= {"typer"}


def test_engine_and_training_keep_their_files_in_folders() -> None:
    vocabulary = {
        "tasks",
        "errors",
        "files",
        "validation",
        "keys",
        "schema_text",
        "unicode_text",
        "registry",
        "__init__",
    }
    loose = {path.stem for path in (ROOT / "engine").glob("*.py")}
    assert loose <= vocabulary
    assert {path.stem for path in (ROOT / "training").glob("*.py")} == {"__init__"}


def test_functions_fit_a_screen() -> None:
    """Those of `cli` are lists of options."""
    long = [
        f"{module}.{node.name}"
        for module, path in FILES.items()
        if not module.startswith("cli")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno >= LONGEST_FUNCTION
    ]
    assert not long


def test_vllm_trl_and_plotting_are_imported_in_one_place_each() -> None:
    allowed = {
        "vllm": ("engine.server.",),
        "trl": ("training.trainer.",),
        "altair": ("training.report.",),
        "vl_convert": ("training.report.",),
    }
    for module in FILES:
        for name in imported(module):
            rooms = allowed.get(name.partition(".")[0])
            assert rooms is None or module.startswith(rooms), f"{module} imports {name}"
