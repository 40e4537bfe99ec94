"""Loads are measured with checkpoints such as a round leaves."""

from __future__ import annotations

from pathlib import Path

from transformers import AutoTokenizer

from benchmarks.reload import make_checkpoints
from engine.pools.bundled import training_pool
from engine.weights.manifest import read_manifest
from engine.weights.models import BUNDLED_MODEL, resolve_model
from tests.training.tiny import save_tiny_model


def test_checkpoints_hold_the_probes_of_a_round(tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(resolve_model(BUNDLED_MODEL))
    model = tmp_path / "model"
    save_tiny_model(
        model, tied=True, tokenizer=tokenizer, vocab_size=49152, max_position_embeddings=2048
    )
    inputs = {each.input for task in training_pool() for each in task.instances}
    for version, folder in make_checkpoints(str(model), tmp_path).items():
        manifest = read_manifest(folder)
        assert manifest.version == version
        assert len(manifest.probes) == 8
        prompts = [tokenizer.decode(list(probe.prompt_token_ids)) for probe in manifest.probes]
        assert all(any(each in prompt for each in inputs) for prompt in prompts)
        assert all(len(probe.prompt_token_ids) > 50 for probe in manifest.probes)
