"""What vLLM's processes are given when they start."""

from __future__ import annotations

import contextlib
import inspect
import logging
import multiprocessing
from collections import deque
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import vllm
from vllm.model_executor.model_loader.reload import layerwise
from vllm.v1.executor import multiproc_executor

from engine.process.engine_process import PARENT_VARIABLE
from engine.server.vllm import bounded_hits, output_rows, shared_tails, worker
from engine.server.vllm import patched_vllm as patched
from engine.server.vllm.shared_tails import SharedTails


@pytest.mark.parametrize("ours", [True, False])
def test_only_processes_of_a_server_that_jostle_started_die_with_their_parent(
    ours: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    parents: list[int] = []
    monkeypatch.setattr(worker, "die_with", parents.append)
    monkeypatch.setattr(multiprocessing, "parent_process", lambda: SimpleNamespace(pid=7))
    monkeypatch.delenv(PARENT_VARIABLE, raising=False)
    if ours:
        monkeypatch.setenv(PARENT_VARIABLE, "1")
    worker.register()
    assert parents == ([7] if ours else [])


@pytest.mark.parametrize(
    "names",
    [
        patched.OUTPUT_ROWS,
        patched.OUTPUT_ROWS_V2,
        patched.SEEDED_DRAWS,
        patched.BOUNDED_HITS,
        patched.DIRECT_REQUESTS,
        patched.SHARED_HASHES,
        patched.SHARED_TAILS,
        patched.BLOCK_COPIES,
        patched.SLOT_COPIES,
        patched.INTERRUPTED_LOADS,
    ],
)
def test_every_private_name_is_there_in_the_installed_version(names: tuple[str, ...]) -> None:
    assert patched.unfit(names) is None


@pytest.mark.parametrize("version", ["0.33.0", "0.3", "1.0.320", "dev"])
def test_on_versions_that_were_not_read_nothing_is_patched(
    version: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(vllm, "__version__", version)
    monkeypatch.setattr(shared_tails, "has_kv_transfer_group", lambda: True)
    tails = SharedTails.__new__(SharedTails)
    monkeypatch.setattr(shared_tails, "get_kv_transfer_group", lambda: tails)
    problem = f"vLLM {version} is not among the versions it was written for (0.32.x)"
    assert output_rows.install(SimpleNamespace()) == problem
    assert shared_tails.install(SimpleNamespace()) == problem
    assert bounded_hits.install() == problem
    v2 = SimpleNamespace(model_runner=SimpleNamespace(prompt_logprobs_worker=None))
    assert worker.switch_output_rows(v2, on=True) == problem
    worker._forget_interrupted_load(None)
    assert caplog.messages == [f"a load that fails half way is healed by a restart only: {problem}"]


def test_a_name_that_is_gone_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(layerwise, "_place_kernel_tensors")
    assert (patched.unfit(patched.INTERRUPTED_LOADS) or "").endswith(
        "has no vllm.model_executor.model_loader.reload.layerwise:_place_kernel_tensors"
    )


def test_a_load_into_half_precision_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    casts, unloaded = (
        logging.getLogger(name) for name, _ in (patched.CAST_WARNING, patched.UNLOADED_WARNING)
    )

    def warn() -> None:
        for index in range(3):
            casts.warning(patched.CAST_WARNING[1], f"w{index}", "torch.float32", "torch.bfloat16")
        for layer in ("ParallelLMHead", "RMSNorm"):
            unloaded.warning(patched.UNLOADED_WARNING[1], layer)
        casts.warning("something else")

    left: set[str] = set()
    with worker._quiet_load(left):
        warn()
    assert caplog.messages == [
        "something else",
        "3 tensors were cast from float32 to bfloat16",
    ]
    assert left == {"ParallelLMHead", "RMSNorm"}
    caplog.clear()
    warn()
    assert len(caplog.messages) == 6, "other loads than ours keep their warnings"


class Rotary(torch.nn.Module):
    """It has a table and nothing to load."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("table", torch.ones(2))


class Sinks(torch.nn.Linear):
    """Its weights are written past their loader."""


class FakeWorker:
    """A worker whose vLLM loads nothing into some layers of its model."""

    def __init__(self, *unloaded: str, tied: bool = False) -> None:
        embeddings, head = torch.nn.Embedding(2, 2), torch.nn.Linear(2, 2, bias=False)
        if tied:  # whatever the config says: vLLM looks at the weights, too
            head.weight = embeddings.weight
        parts = {"embed": embeddings, "rotary": Rotary(), "attn": Sinks(2, 2), "head": head}
        model = torch.nn.ModuleDict(parts)
        self._unloaded = unloaded
        self.model_runner = SimpleNamespace(get_model=lambda: model)
        self.vllm_config = SimpleNamespace(
            model_config=SimpleNamespace(model="some/model", revision=None)
        )

    def reload_weights(self, weights_path: str) -> None:
        """What vLLM does with its config, and says of a load."""
        self.vllm_config.model_config.model = weights_path
        for layer in self._unloaded:
            name, message = patched.UNLOADED_WARNING
            logging.getLogger(name).warning(message, layer)


@pytest.mark.parametrize(
    ("fake", "path", "told"),
    [
        (FakeWorker("Sinks", "Rotary"), "other", "vLLM did not load Sinks of this model"),
        (FakeWorker("Sinks", "Rotary"), "start", None),
        (FakeWorker("Rotary"), "other", None),
        (FakeWorker("Linear"), "other", "vLLM did not load Linear of this model"),
        (FakeWorker("Linear", tied=True), "other", None),
    ],
)
def test_weights_that_vllm_leaves_as_they_were_are_an_error(
    fake: FakeWorker, path: str, told: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its loader of gpt-oss fills parameters by itself, of which a reload sees nothing."""
    monkeypatch.setattr(worker, "_repack_tied_head", lambda model: None)
    monkeypatch.setattr(worker, "local_folder", lambda model, revision: Path("start"))
    monkeypatch.setattr(logging.getLogger("vllm"), "level", logging.ERROR)
    with pytest.raises(RuntimeError, match=told) if told else contextlib.nullcontext():
        worker._load(fake, path, None)
    worker._load(fake, "start", None)


@pytest.mark.parametrize("arrives", [True, False])
def test_experts_that_arrive_are_packed_as_those_before_were(arrives: bool) -> None:
    """vLLM packs them where it makes their kernel, which it does where there is none yet."""
    kernel, fresh = object(), object()
    method = SimpleNamespace(moe_kernel=kernel)
    layer: Any = torch.nn.Linear(2, 2)
    layer.quant_method, layer.w13_weight = method, layer.weight
    with worker._packed_experts(torch.nn.Sequential(layer)):
        assert method.moe_kernel is None
        if arrives:
            method.moe_kernel = fresh
    assert method.moe_kernel is (fresh if arrives else kernel)


@pytest.mark.parametrize("told", [patched.CAST_WARNING, patched.UNLOADED_WARNING])
def test_vllm_still_words_its_warnings_so(told: tuple[str, str]) -> None:
    source = inspect.getsource(import_module(told[0])).replace('"\n                    "', "")
    assert told[1] in source


def test_what_one_rank_meets_is_raised_by_the_last_whose_answer_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loads: list[str] = []

    def gather(said: list[str | None], fault: str | None, group: object) -> None:
        assert group == "cpu"
        said[:] = ["OSError: no disk", fault]

    def load(rank: int, size: int) -> None:
        ranks = SimpleNamespace(world_size=size, rank_in_group=rank, cpu_group="cpu")
        monkeypatch.setattr("vllm.distributed.parallel_state.get_world_group", lambda: ranks)
        own = SimpleNamespace(parallel_config=SimpleNamespace(world_size=size))
        worker.load_weights(own, "folder")

    monkeypatch.setattr(worker, "_load", lambda rank, path, adapter: loads.append(path))
    monkeypatch.setattr("torch.distributed.all_gather_object", gather)
    load(0, 2)
    with pytest.raises(RuntimeError, match=r"^rank 0: OSError: no disk$"):
        load(1, 2)
    load(0, 1)
    assert loads == ["folder"] * 3
    monkeypatch.setattr(worker, "_load", lambda rank, path, adapter: 1 / 0)
    load(0, 2)
    with pytest.raises(RuntimeError, match="no disk; rank 1: ZeroDivisionError: division by zero"):
        load(1, 2)
    with pytest.raises(ZeroDivisionError):
        load(0, 1)


@pytest.mark.parametrize(("tensor", "raises"), [(0, False), (1, True)])
def test_ranks_of_engines_that_were_not_asked_are_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, tensor: int, raises: bool
) -> None:
    """The world of a model of experts spans all data-parallel engines."""
    gathered: list[str] = []

    def gather(said: list[str | None], fault: str | None, group: str) -> None:
        gathered.append(group)
        said[:] = ["OSError: no disk" if group == "tp" else None] * (len(said) - 1) + [fault]

    def group(name: str, rank: int, size: int) -> Any:
        ranks = SimpleNamespace(world_size=size, rank_in_group=rank, cpu_group=name)
        monkeypatch.setattr(f"vllm.distributed.parallel_state.get_{name}_group", lambda: ranks)

    group("world", 0, 8)
    group("tp", tensor, 2)
    group("pcp", 0, 1)
    group("pp", 0, 1)
    monkeypatch.setattr(worker, "_load", lambda *_: None)
    monkeypatch.setattr("torch.distributed.all_gather_object", gather)
    own = SimpleNamespace(parallel_config=SimpleNamespace(world_size=2))
    with pytest.raises(RuntimeError, match="no disk") if raises else contextlib.nullcontext():
        worker.load_weights(own, "folder")
    assert gathered == ["tp", "pcp", "pp"]


def test_vllm_leaves_answers_behind_a_failure_unread() -> None:
    """Why only the last rank raises; once this fails, no rank need hold back what it has met."""
    status = multiproc_executor.WorkerProc.ResponseStatus
    queues = [deque([(status.FAILURE, "no disk"), (status.SUCCESS, None)]) for _ in range(2)]
    executor: Any = multiproc_executor.MultiprocExecutor.__new__(
        multiproc_executor.MultiprocExecutor
    )
    executor.is_failed, executor.futures_queue = False, deque()
    executor.rpc_broadcast_mq = SimpleNamespace(enqueue=lambda _: None)
    executor.response_mqs = [
        SimpleNamespace(dequeue=lambda timeout, queue=queue: queue.popleft()) for queue in queues
    ]
    for _ in range(2):
        with pytest.raises(RuntimeError, match="no disk"):
            executor.collective_rpc("load")
    assert len(queues[1]) == 1, "the second call has read the first one's answer"
