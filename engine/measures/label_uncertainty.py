"""How unsure the label of one task is, in plain Python, as the server computes it.

`engine.measures.label_measures` computes the same for whole pools.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from engine.protocol.measurements import LabelScore, LabelUncertainty
from engine.variance.analysis import Moves
from engine.variance.pooling import standard_errors


def measure_labels(scores: Sequence[LabelScore]) -> LabelUncertainty:
    """The measures of one task's labels.

    Args:
        scores: Of every instance under the same prompts, of every prompt the same labels, ordered
            by instance, perturbation and label.

    Raises:
        ValueError: If a label of a prompt is missing.
    """
    q = _probabilities(scores)
    table = _information(q)
    (error,) = standard_errors([table])
    return LabelUncertainty(
        label_bald=float(table.mean()) if table.size else None,
        standard_error=error,
        label_entropy=float(_entropy(q.mean(axis=1)).mean()) if table.size else None,
        scores=tuple(scores),
    )


def information_table(scores: Sequence[LabelScore]) -> Moves:
    """What each perturbed prompt tells of the label, in nats; shape (n, k), each >= 0; k may be 0.

    The divergence of q(i, j) from its mean over j >= 1 (Kullback and Leibler, 1951), whose mean
    over j is the mutual information of label and prompt (Houlsby et al., 2011, arXiv 1112.5745).

    Raises:
        ValueError: If a label of a prompt is missing.
    """
    return _information(_probabilities(scores))


def _probabilities(scores: Sequence[LabelScore]) -> NDArray[np.float64]:
    """Label probabilities under the perturbed prompts, shape (n, k, labels)."""
    table: dict[str, dict[int, dict[str, float]]] = {}
    for score in scores:
        prompts = table.setdefault(score.instance_id, {})
        prompts.setdefault(score.perturbation, {})[score.label] = score.probability
    shapes = {(*prompts, *labels) for prompts in table.values() for labels in prompts.values()}
    if len(shapes) != 1:
        raise ValueError("every instance needs the same prompts, every prompt the same labels")
    found = [
        [list(labels.values()) for j, labels in prompts.items() if j > 0]
        for prompts in table.values()
    ]
    return np.array(found).reshape(len(found), len(found[0]), -1 if found[0] else 0)


def _information(q: NDArray[np.float64]) -> Moves:
    if not q.size:
        return np.empty(q.shape[:2])
    mean = q.mean(axis=1, keepdims=True)
    ratio = np.divide(q, mean, out=np.ones_like(q), where=q > 0)
    divergence: Moves = (q * np.log(ratio)).sum(axis=2)
    return np.maximum(divergence, 0.0)  # what rounding leaves below 0 is 0


def _entropy(q: NDArray[np.float64]) -> NDArray[np.float64]:
    """-sum q ln q over the last axis, in nats; 0 ln 0 is 0."""
    logarithms = np.log(q, out=np.zeros_like(q), where=q > 0)
    entropy: NDArray[np.float64] = -(q * logarithms).sum(axis=-1)
    return np.maximum(entropy, 0.0)
