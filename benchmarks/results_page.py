"""Writes `benchmarks/RESULTS.md`: every result that lies in `benchmarks/results`, with its machine.

python -m benchmarks.results_page
"""

from __future__ import annotations

import ast
import json
from pathlib import Path

from benchmarks.common.result_file import RESULTS
from engine.files import write_bytes

PAGE = RESULTS.parent / "RESULTS.md"

_HEAD = """# Results

What the scripts of this folder have printed, each with the machine and the day. `make bench` runs
those that two cores finish in 50 minutes and writes this page. Figures of different machines and
days are not to be compared; the ratios inside one table are of one run. What the README says of
speed stands here, and `tests/benchmarks/test_readme_figures.py` fails where it does not.
"""


def page(folder: Path = RESULTS) -> str:
    """The page."""
    return _HEAD + "".join(section(file) for file in sorted(folder.glob("*.txt")))


def section(file: Path) -> str:
    """What the page says of a file."""
    script = file.parent.parent / f"{_script(file)}.py"
    claim = ast.get_docstring(ast.parse(script.read_text())) or ""
    first = " ".join(claim.partition("\n\n")[0].split())
    text = file.read_text().rstrip()
    return f"\n## {file.stem}\n\n{first}\n\n{_origin(file)}\n\n```text\n{text}\n```\n"


def _script(file: Path) -> str:
    """The script that wrote a file: its longest name that the file's begins with."""
    scripts = [each.stem for each in file.parent.parent.glob("*.py")]
    return max((each for each in scripts if file.stem.startswith(each)), key=len)


def _origin(file: Path) -> str:
    """Command, day and machine, as far as they were written down."""
    record = file.with_suffix(".json")
    known = json.loads(record.read_text()) if record.exists() else {}
    if "machine" not in known:
        return f"`python -m benchmarks.{_script(file)}`; day and machine were not written down."
    machine = known["machine"]
    on = ", ".join(machine["gpus"]) or f"{machine['cores']} cores of {machine['cpu']}"
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    return f"`{known['command']}`, {known['date']}, {on}, Python {machine['python']}, {packages}."


if __name__ == "__main__":
    write_bytes(PAGE, page().encode())
