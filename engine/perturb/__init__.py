"""Perturbations: seeded changes of a task's prompt, one small class each.

A perturbation maps a task to a task and says what it did. Every part of the prompt (the definition,
each example) draws from a random stream of its own, keyed by seed, task, perturbation number and
part. So the perturbed prefix is the same for all instances of a task, and stays the same for an
instance whose prompt has room for fewer examples.
"""

from __future__ import annotations

from engine.perturb.apply import Perturbation
from engine.perturb.base import Change, Shown
from engine.perturb.compose import PERTURBATIONS, Compose, PerturbationConfig
from engine.perturb.examples import DropExampleInputs, OrderExamples, ResampleExamples
from engine.perturb.form import Formatting, LetterCase
from engine.perturb.paraphrase import Paraphrase
from engine.perturb.words import DropWords, MaskWords, ShuffleWords, Typos

__all__ = [
    "PERTURBATIONS",
    "Change",
    "Compose",
    "DropExampleInputs",
    "DropWords",
    "Formatting",
    "LetterCase",
    "MaskWords",
    "OrderExamples",
    "Paraphrase",
    "Perturbation",
    "PerturbationConfig",
    "ResampleExamples",
    "Shown",
    "ShuffleWords",
    "Typos",
]
