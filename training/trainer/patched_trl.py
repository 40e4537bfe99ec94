"""The private names of TRL that the trainer replaces, all of them, and for which versions."""

from __future__ import annotations

import trl
import trl.trainer.utils

SUPPORTED_TRL = ("1.16.",)
"""Prefixes of the TRL versions that were read."""


def project_completion_rows_only(device: str) -> str | None:
    """On CPU, lets TRL's fused output projection leave the prompt rows out, as it does on CUDA.

    TRL asks `_use_triton` whether to drop positions without a label before the projection onto the
    vocabulary, and on CPU projects all of them. The loss is the same either way; for a small model
    with a large vocabulary this is a third of the time.

    Returns:
        Why nothing was changed where it would help; None otherwise.
    """
    if device != "cpu":
        return None
    if not trl.__version__.startswith(SUPPORTED_TRL):
        known = ", ".join(f"{prefix}x" for prefix in SUPPORTED_TRL)
        return f"TRL {trl.__version__} is not among the versions that were read ({known})"
    if not hasattr(trl.trainer.utils, "_use_triton"):
        return f"TRL {trl.__version__} has no trl.trainer.utils._use_triton"
    trl.trainer.utils._use_triton = lambda _device: True
    return None
