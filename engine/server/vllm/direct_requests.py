"""Hands pairs to vLLM's engine without doing for each what is the same for all.

`AsyncLLM.generate` checks and completes the sampling parameters of every request, draws its name
from the operating system and passes its one answer through a queue, an event and a generator: half
of what a pair costs the server. Pairs differ in their tokens and marks only. So their parameters
are checked and completed once, their names are counted, and the answer sets a future. All else is
vLLM's: its record of requests, its messages to the engine, its statistics, its way to abort.
"""

from __future__ import annotations

import asyncio
import itertools
import time
import uuid
import weakref
from typing import Any

from vllm.inputs.engine import tokens_input
from vllm.outputs import RequestOutput
from vllm.sampling_params import SamplingParams
from vllm.v1.engine import EngineCoreRequest
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError

from engine.server.vllm.patched_vllm import DIRECT_REQUESTS, unfit


class _Answer:
    """Stands in for vLLM's queue of a request that has one answer."""

    def __init__(self) -> None:
        self.future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def put(self, output: Any) -> None:
        """Called by vLLM with the answer, or with what went wrong."""
        if self.future.done():
            return
        if isinstance(output, Exception):
            self.future.set_exception(output)
        else:
            self.future.set_result(output)


class DirectRequests:
    """Runs requests for one generated token whose final output is wanted.

    Args:
        client: The engine client of this process; it outlives this.
    """

    def __init__(self, client: AsyncLLM) -> None:
        self._client = client
        # Several processes ask the same engine.
        self._name = f"jostle-{uuid.uuid4().hex[:12]}"
        self._numbers = itertools.count()

    def prepared(self, params: SamplingParams) -> SamplingParams:
        """The parameters as vLLM completes them; `run` takes copies with other tokens and marks.

        Raises:
            ValueError: If vLLM finds fault with them.
        """
        request = self._client.input_processor.process_inputs(
            "prepared", tokens_input(prompt_token_ids=[0]), params, supported_tasks=("generate",)
        )
        assert request.sampling_params is not None
        return request.sampling_params

    async def run(
        self, token_ids: list[int], params: SamplingParams, salt: str, rank: int | None
    ) -> RequestOutput:
        """The final output of a prompt; the engine gives it up when the wait is cancelled.

        Args:
            token_ids: The prompt, shorter than the model's context.
            params: A copy of prepared ones.
            salt: Of the prefix cache.
            rank: Data-parallel rank; None: any.

        Raises:
            EngineDeadError: If the engine is dead, or dies.
        """
        client = self._client
        if client.errored:
            raise EngineDeadError
        client.renderer.validate_token_ids(token_ids)
        name = f"{self._name}-{next(self._numbers)}"
        client.check_admission(request_id=name)
        request = EngineCoreRequest(
            request_id=name,
            prompt_token_ids=token_ids,
            mm_features=None,
            sampling_params=params,
            pooling_params=None,
            arrival_time=time.time(),
            lora_request=None,
            cache_salt=salt,
            data_parallel_rank=rank,
            external_req_id=name,
        )
        client._run_output_handler()  # type: ignore[no-untyped-call]
        answer: Any = _Answer()
        client.output_processor.add_request(request, None, None, 0, answer)
        try:
            await client.engine_core.add_request_async(request)
            output: RequestOutput = await answer.future
        except EngineDeadError:
            raise
        except BaseException:
            await client.abort(name, internal=True)
            raise
        return output


_all: weakref.WeakKeyDictionary[Any, DirectRequests] = weakref.WeakKeyDictionary()


def direct_requests(client: Any) -> DirectRequests | None:
    """Those of a client, the same every time; None where `generate` has to do.

    vLLM refuses requests for log-probabilities of the prompt that it would get wrong: with keys and
    values shared between layers. That check is its own.
    """
    if type(client) is not AsyncLLM or unfit(DIRECT_REQUESTS):
        return None
    if client.vllm_config.cache_config.kv_sharing_fast_prefill:
        return None
    if client not in _all:
        _all[client] = DirectRequests(weakref.proxy(client))
    return _all[client]
