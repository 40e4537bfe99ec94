"""Changing the weights of the real server: proven by values, not by status codes."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from engine.client import EngineClient
from engine.errors import EngineError, InputError
from engine.manifest import MANIFEST_NAME, file_digest
from engine.pools.bundled import training_pool
from tests.integration.reference import Reference, published_change
from tests.integration.test_scoring_exact import CONFIG, worst_difference

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]


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
    tasks = random.Random(seed).sample(list(training_pool()), 7 if seed == 1 else 1)
    before = list(client.score(tasks, CONFIG))
    checkpoint, manifest, changed = published_change(base, weights_root, seed, names=names)

    state = client.load_weights(checkpoint, manifest.version)
    assert client.weights() == state
    after = list(client.score(tasks, CONFIG))

    assert all(score.weights_version == manifest.version for score in after)
    assert all(
        one.prompt_uncertainty != two.prompt_uncertainty
        for one, two in zip(before, after, strict=True)
    )
    worst, n_pairs = worst_difference(tasks, after, CONFIG, changed)
    print(f"{n_pairs} pairs after the reload, largest difference {worst:.2e}")
    assert worst < 1e-4
    # The change is felt: the old weights give other numbers for the same pairs.
    stale, _ = worst_difference(tasks[:1], after[:1], CONFIG, base)
    assert stale > 1e-3


def break_tensor(checkpoint: Path, how: str) -> None:
    """Damages a published checkpoint and mends its manifest, so that only content can tell."""
    file = checkpoint / "model.safetensors"
    tensors = load_file(file)
    name = "model.layers.7.self_attn.k_proj.weight"
    if how == "missing":
        del tensors[name]
    elif how == "extra":
        tensors["model.layers.7.self_attn.z_proj.weight"] = tensors[name].clone()
    elif how == "shape":
        tensors[name] = tensors[name][:-64].clone()
    elif how == "nan":
        tensors[name][3, 5] = torch.nan
    elif how == "values":
        tensors[name] *= -1.0
    save_file(tensors, file, metadata={"format": "pt"})
    manifest = json.loads((checkpoint / MANIFEST_NAME).read_text())
    for entry in manifest["files"]:
        if entry["name"] == file.name:
            entry |= {"size": file.stat().st_size, "sha256": file_digest(file)}
    manifest["tensors"] = [
        {"name": key, "shape": list(value.shape), "dtype": "F32"}
        for key, value in sorted(tensors.items())
    ]
    (checkpoint / MANIFEST_NAME).write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("seed", "how", "message"),
    [
        (11, "missing", "k_proj.*missing"),
        (12, "extra", "z_proj.*no such tensor"),
        (13, "shape", "k_proj.*shape"),
        (14, "nan", "k_proj.*NaN"),
        (15, "values", "probe pairs differ.*live again"),
    ],
)
def test_a_bad_checkpoint_changes_nothing(
    client: EngineClient, base: Reference, weights_root: Path, seed: int, how: str, message: str
) -> None:
    tasks = list(training_pool()[:1])
    before = client.weights()
    expected = next(client.score(tasks, CONFIG))
    checkpoint, manifest, _ = published_change(base, weights_root, seed, names=["layers.3."])
    break_tensor(checkpoint, how)

    with pytest.raises((InputError, EngineError), match=message):
        client.load_weights(checkpoint, manifest.version)

    assert client.weights() == before
    measured = next(client.score(tasks, CONFIG))
    for one, two in zip(expected.pairs, measured.pairs, strict=True):
        assert one.logprob == pytest.approx(two.logprob, abs=1e-4)


def test_only_published_checkpoints_below_the_root_are_loaded(
    client: EngineClient, base: Reference, weights_root: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="outside the weights root"):
        client.load_weights(base.folder, "base")
    with pytest.raises(InputError, match="no such folder"):
        client.load_weights(weights_root / "nowhere", "x")
    unfinished = weights_root / "unfinished"
    unfinished.mkdir(exist_ok=True)
    with pytest.raises(InputError, match="no manifest"):
        client.load_weights(unfinished, "x")
    checkpoint, _, _ = published_change(base, weights_root, 21, names=["layers.3."])
    with pytest.raises(InputError, match="holds version round-21-"):
        client.load_weights(checkpoint, "round-99-other")
