"""A vLLM worker that computes nothing and answers at once: what is left is Python.

It drives the V2 runner's scheduler, and that runner's object for log-probabilities of the prompt,
vLLM's own or ours, without a device. Its values depend on the token alone, so every answer can be
checked.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from vllm.v1.kv_cache_interface import FullAttentionSpec
from vllm.v1.outputs import EMPTY_MODEL_RUNNER_OUTPUT, LogprobsLists, ModelRunnerOutput
from vllm.v1.worker.gpu.sample import prompt_logprob
from vllm.v1.worker.worker_base import CompilationTimes, WorkerBase

from engine.server.vllm import output_rows_v2, shared_tails

COUNTS_VARIABLE = "JOSTLE_MADE_UP_COUNTS"
"""Environment variable: the file that gets steps, tokens and rows, at each idle moment."""

N_LAYERS, BLOCKS = 2, 20_000


def logprob(token_ids: torch.Tensor) -> torch.Tensor:
    """The made-up log-probability of tokens, float32 and below 0."""
    return -((token_ids.long() * 7919) % 97).float() / 10 - 0.01


def is_greedy(token_ids: torch.Tensor) -> torch.Tensor:
    """Whether a token is made up to be the likeliest."""
    return token_ids % 3 == 0


def project(*arguments: Any) -> torch.Tensor:
    """In place of `engine.server.vllm.output_rows.project`."""
    targets = arguments[3]
    return torch.stack([logprob(targets), is_greedy(targets).float() - 1.0], dim=-1)


class MadeUpWorker(WorkerBase):
    """Keeps of each request what the V2 runner's batch would hold of it, and nothing else."""

    def init_device(self) -> None:
        """Puts the made-up values where a head would compute them."""
        self.device = torch.device("cpu")
        config = self.vllm_config
        self.counts = {"steps": 0, "tokens": 0, "requests": 0, "projections": 0}
        self.model_runner: Any = SimpleNamespace(
            model_config=self.model_config,
            lora_config=None,
            prompt_logprobs_worker=prompt_logprob.PromptLogprobsWorker(
                config.scheduler_config.max_num_seqs, self.device
            ),
        )
        setattr(output_rows_v2, "project", project)  # noqa: B010
        setattr(  # noqa: B010
            prompt_logprob, "compute_token_logprobs", lambda _, token_ids: logprob(token_ids)
        )
        setattr(shared_tails, "install", lambda _: None)  # noqa: B010  there is nothing to copy
        self.requests: dict[str, Any] = {}
        self.output: ModelRunnerOutput | None = None

    def get_kv_cache_spec(self) -> dict[str, Any]:
        """Two layers: how many there are costs nothing."""
        size = self.vllm_config.cache_config.block_size
        return {
            f"model.layers.{number}.self_attn.attn": FullAttentionSpec(
                block_size=size, num_kv_heads=1, head_size=64, dtype=torch.bfloat16
            )
            for number in range(N_LAYERS)
        }

    def determine_available_memory(self) -> int:
        """Room for some thousand prompts."""
        specs = self.get_kv_cache_spec().values()
        return BLOCKS * sum(int(spec.page_size_bytes) for spec in specs)

    def execute_model(self, scheduler_output: Any) -> ModelRunnerOutput | None:
        """Notes what is scheduled; the answer comes with `sample_tokens`, as on the V2 runner."""
        worker = self.model_runner.prompt_logprobs_worker
        for req_id in scheduler_output.finished_req_ids:
            self.requests.pop(req_id, None)
            worker.remove_request(req_id)
        for new in scheduler_output.scheduled_new_reqs:
            self.counts["requests"] += 1
            self.requests[new.req_id] = SimpleNamespace(
                prompt_len=len(new.prompt_token_ids),
                params=new.sampling_params,
                computed=new.num_computed_tokens,
            )
            worker.add_request(new.req_id, 0, new.sampling_params)
        cached = scheduler_output.scheduled_cached_reqs
        for req_id, computed in zip(cached.req_ids, cached.num_computed_tokens, strict=True):
            self.requests[req_id].computed = computed
        if not scheduler_output.num_scheduled_tokens:
            self._tell()
            return EMPTY_MODEL_RUNNER_OUTPUT
        self.output = self._answer(scheduler_output.num_scheduled_tokens)
        return None

    def sample_tokens(self, grammar_output: Any) -> ModelRunnerOutput:
        """The answer to the step."""
        output, self.output = self.output, None
        assert output is not None
        return output

    def _answer(self, scheduled: dict[str, int]) -> ModelRunnerOutput:
        names = list(scheduled)
        requests = [self.requests[name] for name in names]
        counts = np.fromiter(scheduled.values(), dtype=np.int64)
        starts = np.array([request.computed for request in requests])
        lengths = np.array([request.prompt_len for request in requests])
        self.counts["steps"] += 1
        self.counts["tokens"] += int(counts.sum())
        batch = SimpleNamespace(
            req_ids=names,
            idx_mapping_np=np.arange(len(names)),
            num_computed_prefill_tokens_np=np.minimum(starts, lengths),
            num_scheduled_tokens=counts,
            prefill_len_np=lengths,
            query_start_loc_np=np.concatenate([[0], np.cumsum(counts)]),
        )
        scores = self.model_runner.prompt_logprobs_worker.compute_prompt_token_id_logprobs(
            self._logits, torch.empty(int(counts.sum()), 1), batch, lengths
        )
        ends = starts + counts
        sampled = [
            [1000 + int(end) % 50] if end >= length else []
            for end, length in zip(ends, lengths, strict=True)
        ]
        tokens = np.array([each[0] if each else 0 for each in sampled])
        wanted = any(request.params.logprobs is not None for request in requests)
        logprobs = LogprobsLists(
            tokens[:, None], logprob(torch.from_numpy(tokens)).numpy()[:, None], tokens * 0 + 1
        )
        return ModelRunnerOutput(
            req_ids=names,
            req_id_to_index={name: number for number, name in enumerate(names)},
            sampled_token_ids=sampled,
            logprobs=logprobs if wanted else None,
            prompt_token_id_logprobs_dict=scores,
        )

    def _logits(self, hidden_states: torch.Tensor) -> torch.Tensor:
        self.counts["projections"] += 1
        return hidden_states

    def _tell(self) -> None:
        if path := os.environ.get(COUNTS_VARIABLE):
            Path(path).write_text(json.dumps(self.counts))

    def compile_or_warm_up_model(self) -> CompilationTimes:
        """Nothing to compile."""
        return CompilationTimes(0.0, 0.0)

    def get_model(self) -> torch.nn.Module:
        """A model without weights."""
        return torch.nn.Module()

    def get_supported_tasks(self) -> tuple[str, ...]:
        """Generation."""
        return ("generate",)

    def get_supported_kv_cache_layouts(self) -> list[str]:
        """One that no backend is asked about."""
        return ["LBNHC"]

    def supports_draft_weight_updates(self) -> bool:
        """No drafts."""
        return False

    def _nothing(self, *_: Any, **__: Any) -> None:
        """There is no device, no model and no cache."""

    load_model = set_kv_cache_layout = get_kv_connector_handshake_metadata = _nothing
    initialize_from_config = reset_mm_cache = reset_encoder_cache = check_health = _nothing
    shutdown = _nothing
