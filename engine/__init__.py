"""The engine room: asks the model how it would answer, and how sure it is.

Pools, prompts, perturbations, the pair plan, the measures, and the scoring routes that plug into a
stock vLLM server, with the client that calls them. vLLM is imported below `engine.server` only.

`Scorer` is the front door: `from engine import Scorer`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine.session.scoring_session import Scorer as Scorer

__all__ = ["Scorer"]


def __getattr__(name: str) -> Any:
    if name == "Scorer":  # what it imports, no other room needs
        from engine.session.scoring_session import Scorer

        return Scorer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
