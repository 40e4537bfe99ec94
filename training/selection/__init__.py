"""Selection: which scored tasks are trained on next.

strategy.py           what a strategy is, and what all of them share
ranking.py            by prompt uncertainty, disagreement, perplexity, any column; at random
groups.py             by map category, per category, by strata; mixes
diverse.py            uncertain tasks that are unlike each other
similarity.py         how alike two tasks are
strategy_registry.py  all strategies by name, those of installed packages included
selecting.py          the selection, with forced and excluded tasks
selection_record.py   `selection.json`, and lists of tasks read
strategy_testing.py   a test kit for strategies of one's own
"""

from __future__ import annotations

from training.selection.selecting import select, select_tasks
from training.selection.selection_record import SelectedTask, Selection
from training.selection.strategy import Choice, Draw, Strategy
from training.selection.strategy_registry import (
    STRATEGIES,
    AnyStrategy,
    check_measured,
    parse_strategy,
)

__all__ = [
    "STRATEGIES",
    "AnyStrategy",
    "Choice",
    "Draw",
    "SelectedTask",
    "Selection",
    "Strategy",
    "check_measured",
    "parse_strategy",
    "select",
    "select_tasks",
]
