"""`jostle race` writes what it selected and why."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from cli import main as cli_main
from tests.engine.design.test_live import Engine
from tests.engine.small_tokenizers import gpt2


class Client(Engine):
    def __init__(self, _url: str, _api_key: str | None, **_options: Any) -> None:
        super().__init__()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_error: object) -> None:
        pass


def test_a_race_from_a_pool_to_task_ids(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("engine.client.EngineClient", Client)
    monkeypatch.setattr("engine.models.resolve_model", lambda name: name)

    def tokenizer(_name: str) -> Any:
        return gpt2()

    monkeypatch.setattr("transformers.AutoTokenizer.from_pretrained", tokenizer)
    pool = tmp_path / "seed_tasks.jsonl"
    rows = [
        {
            "id": f"seed_task_{index}",
            "name": f"task {index}",
            "instruction": f"Say which of the {index} things is blue and which of them is not.",
            "instances": [{"input": f"{n} things", "output": "yes"} for n in range(6)],
            "is_classification": True,
        }
        for index in range(9)
    ]
    pool.write_text("".join(json.dumps(row) + "\n" for row in rows))
    chosen = tmp_path / "top.txt"
    words = ("race", pool, "-o", chosen, "--url", "http://nowhere", "-n", 3, "--budget", 60_000)
    monkeypatch.setattr(sys, "argv", ["jostle", *map(str, words)])
    with pytest.raises(SystemExit) as stop:
        cli_main.main()
    shown = capsys.readouterr()
    assert not stop.value.code, shown
    assert "3 of 9 tasks after" in shown.out
    result = json.loads((tmp_path / "top.race.json").read_text())
    assert len(result["standings"]) == 9
    ids = chosen.read_text().split()
    assert set(ids) == {each["task_id"] for each in result["standings"] if each["selected"]}
