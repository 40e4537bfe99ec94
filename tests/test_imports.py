"""What costs seconds to import comes in only where it is the subject."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sharing import HEAVY

ROOT = Path(__file__).parents[1]
COSTLY = ("torch", "vllm", "transformers", "trl", "datasets")

ALLOWED = ("engine.server.", "engine.harness.", "training.trainer.", "training.callback")
"""Where vLLM, the harness, or TRL are the subject."""

_IMPORT_ALL = """
import importlib, json, sys
for module in sys.argv[1:]:
    importlib.import_module(module)
print(json.dumps(sorted(sys.modules)))
"""

_COLLECT = """
import json, sys
import pytest
assert pytest.main(sys.argv[1:]) == 0
print(json.dumps(sorted(sys.modules)))
"""


def modules_after(script: str, *arguments: str) -> set[str]:
    """What another Python has imported once it has run a script."""
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_a_client_imports_neither_torch_nor_vllm_nor_transformers() -> None:
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for room in ("engine", "training", "cli")
        for path in sorted((ROOT / room).rglob("*.py"))
    ]
    ours = [each for each in modules if not each.startswith(ALLOWED)]
    assert {"engine.client", "engine.pools", "engine.questions.scorer", "cli.main"} <= set(ours)
    assert modules_after(_IMPORT_ALL, *ours).isdisjoint(COSTLY)


@pytest.mark.slow
def test_collecting_the_other_tests_imports_neither_torch_nor_vllm() -> None:
    """Of the quick ones; a file that fails this imports later, or belongs to `HEAVY`."""
    loaded = modules_after(
        _COLLECT,
        "--collect-only",
        "--quiet",
        "--quiet",
        "-p",
        "no:cacheprovider",
        *(f"--ignore={each}" for each in HEAVY),
    )
    assert loaded.isdisjoint({"torch", "vllm", "trl", "datasets"})
