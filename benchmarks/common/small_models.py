"""Random models of many architectures, as small as their code allows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from engine.weights.models import BUNDLED_MODEL, resolve_model
from engine.weights.probing import capping_attention

CONTEXT = 2048

SHAPE: dict[str, Any] = {
    "vocab_size": 49152,  # of the bundled model, whose tokenizer they get
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": CONTEXT,
    "initializer_range": 0.2,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "pad_token_id": None,
}


class SmallModel(NamedTuple):
    """What makes one.

    Attributes:
        config: What differs from `SHAPE`.
        without: What of it the architecture does not know.
        family: Its `model_type`; None: as it is called here.
        special: What the engine has to deal with in it.
    """

    config: Mapping[str, Any] = MappingProxyType({})
    without: tuple[str, ...] = ()
    family: str | None = None
    special: str = ""


_OLD = ("num_key_value_heads", "intermediate_size")
_HEAD = {"head_dim": 32}
_WINDOW = _HEAD | {"sliding_window": 64}
_PAD = {"pad_token_id": 0}
_EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
_SMALL_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 64}
_LATENT = {
    "kv_lora_rank": 512,  # with the next the one size that vLLM has kernels for
    "qk_rope_head_dim": 64,
    "qk_nope_head_dim": 32,
    "v_head_dim": 32,
    "num_key_value_heads": 2,
}
_ROUTED = _LATENT | {
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 64,
    "n_shared_experts": 1,
    "first_k_dense_replace": 1,
}
_MAMBA = {"mamba_n_heads": 4, "mamba_d_head": 32, "mamba_d_state": 16}
_LINEAR: dict[str, Any] = _HEAD | {
    "layer_types": ["linear_attention", "full_attention"],
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 2,
    "linear_key_head_dim": 32,
    "linear_value_head_dim": 32,
}

SMALL_MODELS: dict[str, SmallModel] = {
    "llama": SmallModel(),
    "llama with biases": SmallModel(
        {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True}, (), "llama"
    ),
    "mistral": SmallModel(_WINDOW, special="a sliding window"),
    "ministral3": SmallModel(_HEAD),
    "qwen2": SmallModel({"tie_word_embeddings": True}),
    "qwen3": SmallModel(_HEAD | {"tie_word_embeddings": True}),
    "gemma": SmallModel(_HEAD),
    "gemma2": SmallModel(
        _WINDOW | {"query_pre_attn_scalar": 32}, special="windows in every second layer, caps"
    ),
    "gemma3_text": SmallModel(
        _WINDOW | {"query_pre_attn_scalar": 32, "num_hidden_layers": 6}, special="windows"
    ),
    "gemma4_text": SmallModel(
        _WINDOW | {"global_head_dim": 32, "num_hidden_layers": 6}, special="windows"
    ),
    "phi": SmallModel({"num_key_value_heads": 2}, special="a bias of the head"),
    "phi3": SmallModel(_PAD),
    "gpt2": SmallModel({"n_inner": 128}, _OLD),
    "gpt_bigcode": SmallModel({"n_inner": 128}, _OLD),
    "gpt_neox": SmallModel({}, _OLD[:1]),
    "gptj": SmallModel(
        {"rotary_dim": 16, "tie_word_embeddings": False}, _OLD, special="a bias of the head"
    ),
    "opt": SmallModel({"ffn_dim": 128, "word_embed_proj_dim": 64, "pad_token_id": 1}, _OLD),
    "bloom": SmallModel(
        {"n_head": 2, "n_layer": 2},
        (*_OLD, "num_hidden_layers", "num_attention_heads"),
        special="ALiBi",
    ),
    "falcon": SmallModel({"num_kv_heads": 2, "new_decoder_architecture": True}, _OLD),
    "starcoder2": SmallModel({"sliding_window": 64}, special="a sliding window"),
    "stablelm": SmallModel(),
    "olmo": SmallModel({"clip_qkv": 8.0}),
    "olmo2": SmallModel(),
    "olmo3": SmallModel({"sliding_window": 64, "num_hidden_layers": 4}, special="windows"),
    "granite": SmallModel(
        {"embedding_multiplier": 2.0, "logits_scaling": 3.0, "residual_multiplier": 0.5},
        special="scaled logits",
    ),
    "cohere": SmallModel({"logit_scale": 0.25}, special="scaled logits"),
    "cohere2": SmallModel(
        _HEAD | {"logit_scale": 0.25, "sliding_window": CONTEXT, "num_hidden_layers": 4},
        special="scaled logits, windows",
    ),
    "nemotron": SmallModel(_HEAD),
    "glm": SmallModel(_HEAD | _PAD),
    "glm4": SmallModel(_HEAD | _PAD),
    "exaone4": SmallModel(
        {"sliding_window": 64, "sliding_window_pattern": 2, "num_hidden_layers": 4},
        special="windows",
    ),
    "smollm3": SmallModel(_PAD | {"num_hidden_layers": 4}),
    "ernie4_5": SmallModel(_HEAD),
    "seed_oss": SmallModel(_HEAD),
    "hunyuan_v1_dense": SmallModel(_HEAD),
    "arcee": SmallModel(),
    "apertus": SmallModel(),
    "mixtral": SmallModel(_EXPERTS, special="experts"),
    "qwen2_moe": SmallModel(
        _SMALL_EXPERTS | {"shared_expert_intermediate_size": 64}, special="experts"
    ),
    "qwen3_moe": SmallModel(_SMALL_EXPERTS | _HEAD, special="experts"),
    "olmoe": SmallModel({"num_experts": 4, "num_experts_per_tok": 2}, special="experts"),
    "granitemoe": SmallModel(_EXPERTS | {"logits_scaling": 2.0}, special="experts"),
    "gpt_oss": SmallModel(_EXPERTS | _WINDOW, special="experts, windows, sinks"),
    "deepseek_v3": SmallModel(
        _ROUTED | {"q_lora_rank": 32, "n_group": 2, "topk_group": 1, "topk_method": "noaux_tc"},
        special="latent attention, experts",
    ),
    "mamba": SmallModel(
        {"state_size": 16},
        (*_OLD, "num_attention_heads", "max_position_embeddings"),
        special="states",
    ),
    "falcon_h1": SmallModel(
        _HEAD | _PAD | _MAMBA | {"mamba_d_ssm": 128, "mamba_n_groups": 1}, special="states"
    ),
    "jamba": SmallModel(
        _PAD
        | {
            "num_experts": 2,
            "attn_layer_period": 2,
            "attn_layer_offset": 1,
            "expert_layer_period": 2,
            "expert_layer_offset": 1,
            "use_mamba_kernels": False,
        },
        special="states, experts",
    ),
    "granitemoehybrid": SmallModel(
        _MAMBA
        | {
            "layer_types": ["mamba", "attention"],
            "num_local_experts": 0,
            "shared_intermediate_size": 128,
            "position_embedding_type": "rope",
        },
        special="states",
    ),
    "qwen3_next": SmallModel(
        _LINEAR | _SMALL_EXPERTS | {"shared_expert_intermediate_size": 64},
        special="states, experts",
    ),
}
"""By `model_type`, but where `family` says another."""


def make_small_model(kind: SmallModel, name: str, folder: Path) -> tuple[Any, Any]:
    """A model in a new folder, as transformers loads it from there in float32, and its tokenizer.

    Args:
        name: Its `model_type`, where `kind` has none.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    config = {key: value for key, value in SHAPE.items() if key not in kind.without}
    shape = AutoConfig.for_model(kind.family or name, **config | dict(kind.config))
    torch.manual_seed(0)
    make: Any = AutoModelForCausalLM.from_config
    add_noise(make(shape, dtype=torch.float32), 0, 0.1).save_pretrained(folder)
    AutoTokenizer.from_pretrained(resolve_model(BUNDLED_MODEL)).save_pretrained(folder)
    return read_model(folder), AutoTokenizer.from_pretrained(folder)  # by the model's own class


def read_model(folder: Path) -> Any:
    """What transformers loads from a folder, in float32."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    attention = capping_attention(AutoConfig.from_pretrained(folder))
    model: Any = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation=attention
    )
    return model.eval()


def add_noise(model: Any, seed: int, scale: float) -> Any:
    """The model, each of its weights moved by noise in the share `scale` of the tensor's own.

    What has none of its own (biases are made as zeros) gets `scale` itself.
    """
    import torch

    torch.manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "A_log" not in name:  # a state would grow without end
                spread = float(parameter.std()) if parameter.numel() > 1 else 0.0
                parameter += scale * (spread or 1.0) * torch.randn_like(parameter)
    return model
