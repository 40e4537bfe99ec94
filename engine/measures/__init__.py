"""Measures of tasks: what each is, and how it is computed from stored pairs.

task.py         the paper's measures of one task, in plain Python, as the server computes them
disagreement.py, label_uncertainty.py
                those of sampled outputs and of labels, likewise
measure.py      what a measure declares: inputs, direction, range, formula, source
likelihood.py   measures from scored pairs
labels.py       measures from probabilities of labels
outputs.py      measures from sampled outputs
registry.py     all measures by name, those of installed packages included
compute.py      the measures of a table
task_map.py     ambiguous, easy, difficult
stability.py    how sure a task's category is
testing.py      a test kit for measures of one's own
"""

from __future__ import annotations

from engine.measures.task_map import MapConfig, Thresholds, map_categories
from engine.measures.task_measures import perplexity, prediction_probability, prompt_uncertainty

__all__ = [
    "MapConfig",
    "Thresholds",
    "map_categories",
    "perplexity",
    "prediction_probability",
    "prompt_uncertainty",
]
