from __future__ import annotations

from pathlib import Path

from engine.pools.checks import Faults
from tests.training.pair_files.test_pair_columns import ASSISTANT, USER
from training.pair_files.pair_columns import PairColumns
from training.pair_files.pair_file import PairFiles


def test_a_data_set_that_spells_its_conversations_as_json(tmp_path: Path) -> None:
    from datasets import Dataset, Features, Json, List  # type: ignore[import-untyped]

    rows = {"messages": [[USER, ASSISTANT], [USER | {"weight": 1}, ASSISTANT]]}
    Dataset.from_dict(rows, features=Features(messages=List(Json()))).save_to_disk(tmp_path / "set")
    found = PairFiles([str(tmp_path / "set")], PairColumns()).survey(Faults(), typed=True)
    assert found.n_pairs == 2
    assert "weight" in str(found.kept.schema())
