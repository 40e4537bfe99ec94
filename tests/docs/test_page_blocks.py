"""Every code block of the README and of docs/ is run, or parsed (`page_blocks`), in order, in a
folder of its page's own."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.docs.page_blocks import PAGES, ROOT, page_blocks
from tests.docs.page_run import PageRun, stand_ins

engines = pytest.fixture(scope="module")(stand_ins)


@dataclass
class FakeConfig:
    """TRL's, as far as pages show it; its own `bf16` is refused on a CPU."""

    output_dir: str
    bf16: bool = True


class FakeTrainer:
    """TRL's, as far as pages show it: that it trains is tested with the callback."""

    def __init__(
        self, model: str, args: FakeConfig, train_dataset: Any, callbacks: list[Any]
    ) -> None:
        assert Path(model).is_dir()
        assert not args.bf16
        assert {"prompt", "completion"} <= set(train_dataset.column_names)
        assert [type(each).__name__ for each in callbacks] == ["HotReload"]

    def train(self) -> None:
        pass


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_blocks_run(
    page: Path,
    engines: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    trl = SimpleNamespace(SFTConfig=FakeConfig, SFTTrainer=FakeTrainer)
    monkeypatch.setitem(sys.modules, "trl", trl)
    reader = PageRun(tmp_path, engines, monkeypatch, capsys)
    for block in page_blocks(page):
        if not block.real:
            reader.run(block)
