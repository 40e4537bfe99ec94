"""What work cost, summed."""

from __future__ import annotations

from engine.protocol.api import Usage


def test_costs_are_summed_field_by_field() -> None:
    usages = [Usage(pairs=n, tokens_submitted=10 * n, tokens_reused=n, samples=1) for n in range(4)]
    total = Usage(pairs=6, tokens_submitted=60, tokens_reused=6, samples=4)
    assert Usage.total(usages) == total
    assert usages[0] + usages[1] + usages[2] + usages[3] == total
    assert Usage.total([]) == Usage()
