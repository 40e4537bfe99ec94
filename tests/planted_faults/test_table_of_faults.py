"""Every fault can still be planted; `python -m tests.planted_faults` sees that each is noticed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.planted_faults.faults import FAULTS, Fault
from tests.planted_faults.planting import faulty_source

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.means)
def test_it_can_be_planted(fault: Fault) -> None:
    path = ROOT / f"{fault.module.replace('.', '/')}.py"
    source = faulty_source(fault, str(path))
    assert source != path.read_text()
    compile(source, path, "exec")
    file, _, test = fault.tests.partition("::")
    assert f"def {test}" in (ROOT / file).read_text()
