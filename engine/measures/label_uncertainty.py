"""What each perturbed prompt tells of a task's label."""

from __future__ import annotations

import numpy as np

from engine.measures.measure import LabelProbabilities
from engine.variance.analysis import Moves


def information_table(labels: LabelProbabilities) -> Moves:
    """What each perturbed prompt tells of the label, in nats; shape (n, k), each >= 0.

    The divergence of q(i, j) from its mean over j >= 1 (Kullback and Leibler, 1951), whose mean
    over j is the mutual information of label and prompt (Houlsby et al., 2011, arXiv 1112.5745),
    plugged in, so too low for few j. Of two prompts both diverge by nearly the same, which says
    nothing of what others would tell: without a third its shape is (n, 0).

    Args:
        labels: The labels of every prompt in the same order.

    Raises:
        ValueError: If a label of a prompt is missing.
    """
    shapes = {(*prompts, *q) for prompts in labels.values() for q in prompts.values()}
    if len(shapes) != 1:
        raise ValueError("every instance needs the same prompts, every prompt the same labels")
    found = [[list(q.values()) for j, q in prompts.items() if j > 0] for prompts in labels.values()]
    q = np.array(found).reshape(len(found), len(found[0]), -1 if found[0] else 0)
    if q.shape[1] < 3:
        return np.empty((len(q), 0))
    mean = q.mean(axis=1, keepdims=True)
    ratio = np.divide(q, mean, out=np.ones_like(q), where=q > 0)
    divergence: Moves = (q * np.log(ratio)).sum(axis=2)
    return np.maximum(divergence, 0.0)  # what rounding leaves below 0 is 0
