"""Figures of one measurement: what was done a second, and how long requests took."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Self

from engine.bench.load_client import TimedCall
from engine.bench.load_phase import Phase
from engine.tasks import Record


class Quantiles(Record):
    """Of some times, in seconds. A quantile is a time that was measured (nearest rank).

    Attributes:
        mean: Their mean.
        p50: The median.
        p95: Exceeded by one in 20.
        p99: Exceeded by one in 100.
    """

    mean: float
    p50: float
    p95: float
    p99: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Self | None:
        """None of no times."""
        if not seconds:
            return None
        ordered = sorted(seconds)

        def quantile(share: float) -> float:
            return ordered[math.ceil(share * len(ordered)) - 1]

        mean = sum(ordered) / len(ordered)
        return cls(mean=mean, p50=quantile(0.5), p95=quantile(0.95), p99=quantile(0.99))


_RATES = (
    *("requests_per_s", "pairs", "samples", "length"),
    *("submitted", "computed", "reused", "generated"),
)


class Figures(Record):
    """What one kind of requests came to.

    A request that lies partly in the window counts with the part of its time that does. Where
    requests may queue up, those count that were answered in it. Times are of those due in it.

    Attributes:
        requests: Requests due in the window.
        errors: Of these, those that failed.
        requests_per_s: Requests answered.
        pairs: Pairs scored, a second.
        samples: Outputs sampled, a second.
        submitted: Tokens of all that was asked of the model, a second.
        computed: Of these, tokens the model computed, a second.
        reused: The others, which the prefix cache supplied, a second.
        generated: Tokens generated, for references and samples, a second.
        length: Of the texts of tasks that were gone through, in characters, a second; see
            `engine.bench.bench_calls.text_length`.
        latency: From when a request was due to its last byte.
        first_result: From when it was due to its first result.
    """

    requests: int
    errors: int
    requests_per_s: float
    pairs: float
    samples: float
    submitted: float
    computed: float
    reused: float
    generated: float
    length: float = 0.0
    latency: Quantiles | None
    first_result: Quantiles | None

    @classmethod
    def of(cls, calls: Sequence[TimedCall], phase: Phase) -> Self:
        """Of the calls of one kind."""
        inside = [call for call in calls if phase.begin <= call.due < phase.end]
        answered = [call for call in inside if call.usage is not None]
        totals = dict.fromkeys(_RATES, 0.0)
        for call in calls:
            share = _share(call, phase) / phase.seconds
            if call.usage is None or not share:
                continue
            usage = call.usage
            totals["requests_per_s"] += share
            totals["length"] += share * call.length
            totals["pairs"] += share * usage.pairs
            totals["samples"] += share * usage.samples
            totals["submitted"] += share * usage.tokens_submitted
            totals["computed"] += share * usage.tokens_computed
            totals["reused"] += share * usage.tokens_reused
            totals["generated"] += share * (usage.tokens_generated + usage.tokens_sampled)
        return cls(
            requests=len(inside),
            errors=len(inside) - len(answered),
            latency=Quantiles.of([call.end - call.due for call in answered]),
            first_result=Quantiles.of([call.first - call.due for call in answered if call.first]),
            **totals,
        )


def _share(call: TimedCall, phase: Phase) -> float:
    """How much of a call counts, in [0, 1]."""
    if phase.open_loop:
        return float(phase.begin <= call.end <= phase.end)
    inside = min(call.end, phase.end) - max(call.due, phase.begin)
    return max(0.0, inside) / max(call.end - call.due, 1e-9)
