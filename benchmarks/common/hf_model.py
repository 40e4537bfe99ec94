"""A model in transformers, as the peers load it."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def load_model(model: str) -> tuple[Any, str]:
    """A model in transformers and its device; a folder without weights gets random ones."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    network: Any
    if any(Path(model).glob("*.safetensors")):
        network = AutoModelForCausalLM.from_pretrained(model, dtype=dtype)
    else:
        config = AutoConfig.from_pretrained(model)
        with torch.device(device):
            network = AutoModelForCausalLM.from_config(config, dtype=dtype)  # type: ignore[no-untyped-call]
    network.to(device)
    network.train(False)
    return network, device
