"""Changing the weights of the real server: proven by values, not by status codes."""

from __future__ import annotations

import json
import os
import random
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from benchmarks.reloads.reload_faults import damage
from engine.client import EngineClient
from engine.errors import EngineError, InputError
from engine.pools.bundled import training_pool
from engine.protocol.api import TaskScore
from engine.weights.adapter import ADAPTER_WEIGHTS
from engine.weights.manifest import MANIFEST_NAME, file_digest, read_manifest
from tests.integration.reference import Reference, published_adapter, published_change
from tests.integration.test_scoring_exact import CONFIG, worst_difference
from training.run.live_engine import go_back

pytestmark = pytest.mark.integration


FEW = CONFIG.model_copy(update={"n_instances": 2, "n_perturbations": 2})


@pytest.mark.parametrize(
    ("seed", "names"),
    [
        (1, [""]),
        (2, ["embed_tokens"]),  # tied: the output projection must follow
        (3, ["layers.15."]),
    ],
)
def test_after_a_reload_scores_are_those_of_the_new_checkpoint(
    client: EngineClient, base: Reference, weights_root: Path, seed: int, names: list[str]
) -> None:
    tasks = random.Random(seed).sample(list(training_pool()), 3 if seed == 1 else 1)
    config = CONFIG if seed == 1 else FEW
    before = list(client.score(tasks, config))
    checkpoint, manifest, changed = published_change(base, weights_root, seed, names=names)

    state = client.load_weights(checkpoint, manifest.version)
    assert client.weights() == state
    after = list(client.score(tasks, config))

    assert all(score.weights_version == manifest.version for score in after)
    assert all(
        one.prompt_uncertainty != two.prompt_uncertainty
        for one, two in zip(before, after, strict=True)
    )
    worst, n_pairs = worst_difference(tasks, after, config, changed)
    print(f"{n_pairs} pairs after the reload, largest difference {worst:.2e}")
    assert worst < 1e-4
    # The change is felt: the old weights give other numbers for the same pairs.
    stale, _ = worst_difference(tasks[-1:], after[-1:], config, base)
    assert stale > 1e-3

    go_back(client)
    again = client.score(tasks[-1:], config)
    assert logprobs(list(again)) == pytest.approx(logprobs(before[-1:]), abs=1e-4)


@pytest.fixture(scope="module")
def good(base: Reference, weights_root: Path) -> Path:
    """A published checkpoint, never loaded: copies of it are damaged."""
    checkpoint, _, _ = published_change(base, weights_root, 10, names=["layers.3."])
    return checkpoint


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("missing file", r"model\.safetensors.*missing"),
        ("truncated file", r"model\.safetensors.*bytes, the manifest says"),
        ("half of a fused tensor missing", "k_proj.*missing"),
        ("whole tensor missing", "input_layernorm.*missing"),
        ("wrong name", "input_layernorm.weight.*missing"),
        ("extra tensor", "k_proj.weight_.*no such tensor"),
        ("wrong shape", "k_proj.*shape"),
        ("wrong dtype", "input_layernorm.*holds I32"),
        ("NaN", "k_proj.*NaN"),
        ("another architecture", r"config\.json.*field"),
        ("half a checkpoint", "the tensor is missing"),
        ("untied into tied", "field 'tie_word_embeddings': is False"),
        ("other values", "probe pairs differ.*live again"),
    ],
)
def test_a_bad_checkpoint_changes_nothing(
    client: EngineClient, good: Path, weights_root: Path, how: str, message: str
) -> None:
    tasks = list(training_pool()[:1])
    before = client.weights()
    expected = next(client.score(tasks, FEW))
    checkpoint = weights_root / "damaged"
    shutil.copytree(good, checkpoint, copy_function=os.link)
    try:
        damage(checkpoint, how, layer=7)
        with pytest.raises((InputError, EngineError), match=message):
            client.load_weights(checkpoint, read_manifest(good).version)
    finally:
        shutil.rmtree(checkpoint)

    assert client.weights() == before
    assert client.ready().weights_version == before.version
    measured = next(client.score(tasks, FEW))
    for one, two in zip(expected.pairs, measured.pairs, strict=True):
        assert one.logprob == pytest.approx(two.logprob, abs=1e-4)


def test_only_published_checkpoints_below_the_root_are_loaded(
    client: EngineClient, base: Reference, good: Path, weights_root: Path
) -> None:
    with pytest.raises(InputError, match="outside the weights root"):
        client.load_weights(base.folder, "base")
    with pytest.raises(InputError, match="no such folder"):
        client.load_weights(weights_root / "nowhere", "x")
    unfinished = weights_root / "unfinished"
    unfinished.mkdir(exist_ok=True)
    with pytest.raises(InputError, match="no manifest"):
        client.load_weights(unfinished, "x")
    with pytest.raises(InputError, match="holds version round-10-"):
        client.load_weights(good, "round-99-other")
    link = weights_root / "link"
    link.symlink_to(base.folder)
    with pytest.raises(InputError, match="outside the weights root"):
        client.load_weights(link, "base")
    with pytest.raises(InputError, match="outside the weights root"):
        client.load_weights(weights_root / ".." / "elsewhere", "base")


def logprobs(scores: list[TaskScore]) -> list[float]:
    return [pair.logprob for score in scores for pair in score.pairs]


def test_an_adapter_gives_the_scores_of_the_merged_checkpoint(
    client: EngineClient,
    base: Reference,
    weights_root: Path,
) -> None:
    tasks = list(training_pool()[:1])
    before = logprobs(list(client.score(tasks, FEW)))
    adapter, manifest, merged = published_adapter(base, weights_root, 20)
    other, other_manifest, _ = published_adapter(base, weights_root, 21)
    whole, whole_manifest, _ = published_change(merged, weights_root, 22, scale=0.0)

    state = client.load_weights(adapter, manifest.version, "lora")
    assert state.kind == "lora"
    assert state.base == str(base.folder)
    assert client.weights() == state
    scores = list(client.score(tasks, FEW))
    assert {score.weights_version for score in scores} == {manifest.version}
    worst, n_pairs = worst_difference(tasks, scores, FEW, merged)
    print(f"{n_pairs} pairs under an adapter, largest difference {worst:.2e}")
    assert worst < 1e-4
    first = logprobs(scores)
    assert max(abs(a - b) for a, b in zip(before, first, strict=True)) > 1e-2

    # Whole weights, then another adapter: each from its own base, never from what was live.
    assert client.load_weights(whole, whole_manifest.version).kind == "full"
    assert logprobs(list(client.score(tasks, FEW))) == pytest.approx(first, abs=1e-4)
    client.load_weights(other, other_manifest.version)
    moved = logprobs(list(client.score(tasks, FEW)))
    assert max(abs(a - b) for a, b in zip(moved, first, strict=True)) > 1e-2
    took = client.load_weights(adapter, manifest.version).seconds
    size = sum(entry.size for entry in manifest.files)
    print(f"an adapter of {size:,} bytes was live after {took:.2f} s")
    assert logprobs(list(client.score(tasks, FEW))) == pytest.approx(first, abs=1e-4)

    # One that lies comes to nothing, and the adapter from before is live again.
    tensors = load_file(other / ADAPTER_WEIGHTS)
    change = next(name for name in sorted(tensors) if "lora_B" in name)
    tensors[change].mul_(-30.0)
    save_file(tensors, other / ADAPTER_WEIGHTS)
    described = json.loads((other / MANIFEST_NAME).read_text())
    for entry in described["files"]:
        path = other / entry["name"]
        entry |= {"size": path.stat().st_size, "sha256": file_digest(path)}
    (other / MANIFEST_NAME).write_text(json.dumps(described))
    with pytest.raises(EngineError, match=f"probe pairs differ.*{manifest.version} is live again"):
        client.load_weights(other, other_manifest.version)
    assert client.weights().version == manifest.version
    assert logprobs(list(client.score(tasks, FEW))) == pytest.approx(first, abs=1e-4)

    described["base_digest"] = "0" * 64
    (other / MANIFEST_NAME).write_text(json.dumps(described))
    with pytest.raises(InputError, match=r"base_digest.*other weights"):
        client.load_weights(other, other_manifest.version)
    with pytest.raises(InputError, match="is 'lora', not 'full'"):
        client.load_weights(adapter, manifest.version, "full")
