"""What a task's score holds beside its pairs, where the measure asks for more.

All log-probabilities are natural logarithms, all entropies are in nats.
"""

from __future__ import annotations

from engine.tasks import Record


class Sample(Record):
    """One sampled output, a row of `samples.parquet`.

    Attributes:
        instance_id: The instance.
        perturbation: j; 0 is the original prompt.
        sample: Its number among the samples of this prompt, from 0.
        output: The output, decoded, special tokens left out.
        label: The task's label that the output is, white space around it and letter case aside;
            null if it is none, or the task has no labels.
        n_tokens: Its tokens, end-of-sequence included when it was emitted.
        finish_reason: `stop` (end of sequence) or `length` (cut at max_output_tokens).
    """

    instance_id: str
    perturbation: int
    sample: int
    output: str
    label: str | None
    n_tokens: int
    finish_reason: str


class OutputDisagreement(Record):
    """How much sampled outputs differ between the original prompt and the perturbed ones.

    Attributes:
        output_disagreement: Mean over instances and j >= 1 of the share of samples that differ from
            the most frequent one under j = 0 (of equally frequent ones the first in the alphabet),
            white space around them aside; in [0, 1]. Null, as what follows, where no perturbed
            prompt differs from its original.
        standard_error: Of output_disagreement, over repeats with other instances and
            perturbations, judged from this task alone.
        rouge_distance: Mean over instances, j >= 1, samples under j and samples under j = 0 of
            1 - ROUGE-L (F-measure over words), in [0, 1].
        label_entropy: Mean over instances of the entropy, in nats, of the label over all samples
            under j >= 1; outputs that are no label count as one label more. Null without labels.
        samples: All samples, ordered by instance, perturbation and number.
    """

    output_disagreement: float | None
    standard_error: float | None
    rouge_distance: float | None
    label_entropy: float | None
    samples: tuple[Sample, ...]


class LabelScore(Record):
    """How likely one label is under one prompt, a row of `labels.parquet`.

    Attributes:
        instance_id: The instance.
        perturbation: j; 0 is the original prompt.
        label: The label, scored as if it were the output, end of sequence included.
        n_tokens: Its tokens.
        logprob: Sum of the token log-probabilities, <= 0.
        probability: exp(logprob) divided by the sum of it over the labels of the prompt, in [0, 1].
    """

    instance_id: str
    perturbation: int
    label: str
    n_tokens: int
    logprob: float
    probability: float


class LabelUncertainty(Record):
    """How unsure the label of a classification is, q(i, j) being a prompt's label probabilities.

    Attributes:
        label_bald: Mean over instances of the mutual information of label and prompt: the entropy
            of the mean of q(i, j) over j >= 1, minus the mean of its entropies; >= 0. Null, as what
            follows, where no perturbed prompt differs from its original.
        standard_error: Of label_bald, over repeats with other instances and perturbations, judged
            from this task alone.
        label_entropy: Mean over instances of the entropy of the mean of q(i, j) over j >= 1.
        scores: All labels, ordered by instance, perturbation and place in the task's labels.
    """

    label_bald: float | None
    standard_error: float | None
    label_entropy: float | None
    scores: tuple[LabelScore, ...]
