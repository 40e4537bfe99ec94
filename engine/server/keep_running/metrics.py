"""What a running server counts of scoring and reloads, on /metrics beside vLLM's own."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from engine.protocol.api import Usage

PAIRS = Counter("jostle:pairs", "Pairs scored.")
SAMPLES = Counter("jostle:samples", "Outputs sampled.")
TOKENS_SAMPLED = Counter("jostle:tokens_sampled", "Tokens generated for sampled outputs.")
TOKENS_COMPUTED = Counter(
    "jostle:tokens_computed", "Submitted tokens the model computed to score pairs and to sample."
)
TOKENS_REUSED = Counter("jostle:tokens_reused", "Tokens the prefix cache supplied instead.")
RELOADS = Counter("jostle:reloads", "Loads of weights.", ["outcome"])
RELOAD_SECONDS = Histogram(
    "jostle:reload_seconds",
    "Time of a load that succeeded, checks and verification included.",
    buckets=(0.25, 0.5, 1, 2, 5, 10, 30, 60, 120, 300),
)
LIVE_VERSION = Gauge(
    "jostle:live_version",
    "1 for the weights version that is live, 0 for those that were.",
    ["version"],
    multiprocess_mode="mostrecent",
)


def count_usage(usage: Usage) -> None:
    """Adds what a task or a request has cost to the metrics."""
    PAIRS.inc(usage.pairs)
    SAMPLES.inc(usage.samples)
    TOKENS_SAMPLED.inc(usage.tokens_sampled)
    TOKENS_COMPUTED.inc(usage.tokens_computed)
    TOKENS_REUSED.inc(usage.tokens_reused)


def show_version(version: str, before: str | None = None) -> None:
    """Names the live version in the metrics."""
    if before is not None and before != version:
        LIVE_VERSION.labels(before).set(0)
    LIVE_VERSION.labels(version).set(1)
