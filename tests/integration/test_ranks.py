"""An engine of two ranks: one rank's numbers, each task on one of them, weights on both or none."""

from __future__ import annotations

import os
import re
import signal
import time
from collections import Counter
from pathlib import Path

import httpx
import pytest

from engine.client import EngineClient
from engine.errors import EngineError
from engine.protocol.completions import TokenPair
from engine.protocol.score_config import ScoreConfig
from engine.tasks import Task
from tests.engine.small_tokenizers import chat
from tests.integration.processes import FAULT_VARIABLE, wait_until_gone
from tests.integration.reference import Reference, published_change
from tests.integration.test_other_models import SHAPE, make_task
from tests.integration.test_scoring_exact import worst_difference
from tests.integration.test_supervision import Served, serving, started_last
from tests.training.tiny import save_tiny_model

pytestmark = [pytest.mark.integration, pytest.mark.long, pytest.mark.timeout(900)]

KINDS = {
    "tensor": ("--tensor-parallel-size=2", "Worker_TP1"),
    "data": ("--data-parallel-size=2", "EngineCore_DP1"),
}
CONFIG = ScoreConfig(n_instances=3, n_perturbations=3, max_output_tokens=8)
TASKS = [make_task(f"task-{number}", "<|im_end|>") for number in range(8)]
PAIRS = [
    TokenPair(prompt_token_ids=range(n, 2 * n), completion_token_ids=(n, 9, 400 - n))
    for n in (7, 20, 70, 90, 110, 130)
]


@pytest.mark.parametrize("kind", KINDS)
def test_two_ranks(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flag, second_rank = KINDS[kind]
    shape = SHAPE | {"hidden_size": 128, "num_attention_heads": 4, "num_key_value_heads": 2}
    save_tiny_model(tmp_path / "model", tied=True, tokenizer=chat(), **shape)
    base = Reference(tmp_path / "model")
    fault = tmp_path / "fault"
    monkeypatch.setenv(FAULT_VARIABLE, str(fault))
    extension = "--worker-extension-cls=tests.integration.one_rank_fails.OneRankFails"
    log = tmp_path / "serve.log"
    with (
        serving(tmp_path / "model", tmp_path, log, flag, extension) as served,
        EngineClient(served.url) as client,
    ):
        print(f"{kind}: first start {served.wait_ready():.1f} s")
        check_scores(client, base)
        check_locality(client, served.url, 2 if kind == "data" else 1)
        live = check_loads(client, base, tmp_path, fault)
        check_kill(served, client, started_last(log, second_rank), live)


def check_scores(client: EngineClient, model: Reference) -> None:
    """Every rank gives transformers' numbers."""
    worst, n_pairs = worst_difference(
        TASKS[:2], list(client.score(TASKS[:2], CONFIG)), CONFIG, model
    )
    assert n_pairs == 24
    assert worst < 1e-4
    check_pairs(client, model)


def check_pairs(client: EngineClient, model: Reference) -> None:
    """As many requests as it takes for each rank to answer some, each with a group of its own."""
    for pair in PAIRS:
        expected = model.token_logprobs(pair.prompt_token_ids, pair.completion_token_ids)
        for _ in range(2):
            (found,) = client.completion_logprobs([pair], tokens=True).results
            assert list(found.token_logprobs or ()) == pytest.approx(expected, abs=1e-4)


def check_locality(client: EngineClient, url: str, n_engines: int) -> None:
    """All pairs of a task go to one engine, where they meet their prefixes; tasks go in turn."""
    used = []
    for task in TASKS:
        before = prompt_tokens(url)
        (score,) = client.score([Task.model_validate(fresh(task))], CONFIG)
        after = prompt_tokens(url)
        used += [engine for engine in after if after[engine] > before.get(engine, 0)]
        print(f"{task.id}: engine {used[-1]}, {score.usage.reuse_share:.2f} of its prefixes reused")
    assert Counter(used) == {str(n): len(TASKS) // n_engines for n in range(n_engines)}


def fresh(task: Task) -> dict[str, object]:
    """The same task in words that no cache has met."""
    return task.model_dump() | {"definition": f"Once more, {task.id}: {task.definition}"}


def prompt_tokens(url: str) -> dict[str, float]:
    """Tokens of prompts that each engine of the server has taken."""
    text = httpx.get(f"{url}/metrics", timeout=60, trust_env=False).text
    found = re.findall(r'^vllm:prompt_tokens_total\{engine="(\d+)".*\} (\S+)$', text, re.MULTILINE)
    return {engine: float(value) for engine, value in found}


def check_loads(client: EngineClient, base: Reference, root: Path, fault: Path) -> Reference:
    """Good weights reach every rank; where one does not load them, all have those from before."""
    first, manifest, changed = published_change(base, root, 51)
    started = time.monotonic()
    client.load_weights(first, manifest.version)
    print(f"loaded in {time.monotonic() - started:.2f} s")
    check_pairs(client, changed)
    other, other_manifest, others = published_change(base, root, 52)
    for what in ("1 fails", "0 fails", "1 does nothing", "0 does nothing"):
        fault.write_text(what)
        with pytest.raises(EngineError, match=f"{manifest.version} is live again") as caught:
            client.load_weights(other, other_manifest.version)
        print(f"rank {what}: {str(caught.value).replace(str(root), '')}")
        assert not fault.exists()
        assert client.weights().version == manifest.version
        check_pairs(client, changed)
    client.load_weights(other, other_manifest.version)
    check_pairs(client, others)
    return others


def check_kill(served: Served, client: EngineClient, rank: int, live: Reference) -> None:
    """One rank ends the server, and the next one serves the weights that were live."""
    version, server = client.weights().version, served.server
    killed = time.monotonic()
    os.kill(rank, signal.SIGKILL)
    wait_until_gone(served.mark, [server])
    print(f"kill -9 of one rank: server gone after {time.monotonic() - killed:.1f} s")
    served.wait_ready()
    assert "the engine ended with code 0" not in served.log.read_text()
    print(f"ready again {time.monotonic() - killed:.1f} s after the kill")
    assert client.weights().version == version
    check_pairs(client, live)
