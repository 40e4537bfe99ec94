"""Published weights of which there is nothing but the manifest, and what an engine in memory makes
of them."""

from __future__ import annotations

from pathlib import Path

from engine.weights.manifest import MANIFEST_NAME, FileEntry, Manifest, Probe, TensorEntry
from tests.engine.questions.fake_backend import output_logprobs

PROMPT, OUTPUT = (1, 2, 3), (4, 5)


def factor(path: str) -> float:
    return 1.0 if path == "base" else 1.0 + sum(Path(path).name.encode()) % 97 / 100


def publish(
    folder: Path, *, lies: bool = False, base_digest: str | None = None, n_probes: int = 1
) -> str:
    """A folder with nothing but a manifest, an adapter's if it names a base; its version."""
    folder.mkdir(parents=True)
    values = output_logprobs(PROMPT, OUTPUT)
    probe = Probe(
        prompt_token_ids=PROMPT,
        completion_token_ids=OUTPUT,
        token_logprobs=tuple(v * factor(str(folder)) - 0.5 * lies for v in values),
    )
    manifest = Manifest(
        version=f"v-{folder.name}",
        kind="full" if base_digest is None else "lora",
        base_model="base",
        base_digest=base_digest,
        dtype="float32",
        files=(FileEntry(name="model.safetensors", size=1, sha256="0" * 64),),
        tensors=(TensorEntry(name="w", shape=(1,), dtype="F32"),),
        probes=(probe,) * n_probes,
    )
    (folder / MANIFEST_NAME).write_text(manifest.model_dump_json())
    return manifest.version
