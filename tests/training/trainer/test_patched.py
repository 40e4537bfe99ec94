"""TRL is patched where its sources were read, and nowhere else."""

from __future__ import annotations

import pytest
import trl
import trl.trainer.utils

from training.trainer.patched_trl import project_completion_rows_only


@pytest.fixture(autouse=True)
def original(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trl.trainer.utils, "_use_triton", lambda _: False)


def patched() -> bool:
    return bool(vars(trl.trainer.utils)["_use_triton"]("cpu"))


def test_the_installed_version_is_patched_on_cpus() -> None:
    assert project_completion_rows_only("cuda") is None
    assert not patched()
    assert project_completion_rows_only("cpu") is None
    assert patched()


def test_another_version_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trl, "__version__", "1.17.0")
    told = project_completion_rows_only("cpu")
    assert told == "TRL 1.17.0 is not among the versions that were read (1.16.x)"
    assert not patched()


def test_a_name_that_is_gone_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(trl.trainer.utils, "_use_triton")
    assert "has no trl.trainer.utils._use_triton" in (project_completion_rows_only("cpu") or "")
