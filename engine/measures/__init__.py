"""Measures of tasks: what each is, and how it is computed from stored pairs.

measure.py           what a measure declares: inputs, direction, range, formula, source
likelihood.py        measures from scored pairs
label_measures.py    measures from probabilities of labels
output_measures.py   measures from sampled outputs
instruction_difficulty.py
                     what the prompt does for a gold output (IFD)
disagreement.py, label_uncertainty.py
                     what the server answers of sampled outputs and of labels
measure_registry.py  all measures by name, those of installed packages included
compute.py           the measures of a table
task_map.py          ambiguous, easy, difficult
stability.py         how sure a task's category is
measure_testing.py   a test kit for measures of one's own
"""

from __future__ import annotations

from engine.measures.likelihood import (
    flip_rate,
    perplexity,
    prediction_probability,
    prompt_uncertainty,
)
from engine.measures.task_map import MapConfig, Thresholds, map_categories

__all__ = [
    "MapConfig",
    "Thresholds",
    "flip_rate",
    "map_categories",
    "perplexity",
    "prediction_probability",
    "prompt_uncertainty",
]
