"""Output rows on vLLM's V1 runner, for the requests that they are for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch

from engine.server.vllm.output_rows import MARK, install, uninstall


class Runner:
    """Stands for vLLM's, whose own method says whom it was left."""

    def __init__(self) -> None:
        params = SimpleNamespace(extra_args={MARK: 0}, prompt_logprobs=0)
        request = SimpleNamespace(sampling_params=params, prompt_token_ids=None)
        self.num_prompt_logprobs, self.requests = {"embeddings": 0}, {"embeddings": request}

    def _get_prompt_logprobs_dict(self, hidden: Any, scheduled: dict[str, int]) -> dict[str, int]:
        return dict(self.num_prompt_logprobs)


def test_a_prompt_of_embeddings_is_left_to_vllm_whatever_its_marks() -> None:
    runner = Runner()
    assert install(runner) is None
    try:
        found = runner._get_prompt_logprobs_dict(torch.zeros(1, 1), {"embeddings": 1})
    finally:
        uninstall(runner)
    assert found == {"embeddings": 0}
