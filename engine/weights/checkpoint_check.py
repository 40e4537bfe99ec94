"""Whether a published checkpoint may replace live weights, found out before anything is touched."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from engine.errors import InputError
from engine.weights.manifest import Manifest, TensorEntry, check_files, read_safetensors_header

# A checkpoint with tied embeddings may or may not hold the output projection a second time.
_TIED = "lm_head.weight"

# What files hold beside weights: vLLM passes it over, and transformers does not write it. Layers
# that draft tokens have names of their own, or numbers behind the last.
_UNREAD = re.compile(
    r"\.(attn|attention)\.(masked_)?bias$|\.rotary_emb\.inv_freq$|(^|\.)mtp(_\w+)?\."
)
_LAYER = re.compile(r"(?:(?:model|language_model)\.)*layers\.(\d+)\.")

WEIGHTS_INDEX, WHOLE_WEIGHTS = "model.safetensors.index.json", "model.safetensors"

PICKLES = frozenset({".bin", ".ckpt", ".joblib", ".npy", ".npz", ".pickle", ".pkl", ".pt", ".pth"})

# vLLM converts between these when it loads; any other type must be that of the live weights.
FLOATS = frozenset({"F64", "F32", "F16", "BF16"})

# Keys of config.json that do not change what the weights mean.
_INCIDENTAL = frozenset(
    {
        "_name_or_path",
        "_commit_hash",
        "architectures",
        "dtype",
        "torch_dtype",
        "transformers_version",
        "use_cache",
        "is_llama_config",
        "rope_interleaved",
        "transformers.js_config",
        "bos_token_id",
        "eos_token_id",
        "pad_token_id",
        "output_router_logits",
        "router_aux_loss_coef",
    }
)


def check_checkpoint(folder: Path, manifest: Manifest, live: Path) -> None:
    """Compares a checkpoint with its manifest and with the weights that are live.

    Args:
        live: Folder of the live checkpoint; the comparison is left out when it is not a folder
            (a model served straight from the hub), and the probes alone decide.

    Raises:
        InputError: If a file is missing or differs, is a link, or could run code when it is loaded;
            a tensor is missing, extra, or of another shape or kind of number; a value is not
            finite; or the architecture is another one.
    """
    check_files(folder, manifest)
    declared = {entry.name: entry for entry in manifest.tensors}
    if read_tensors(folder) != declared:
        raise InputError("the manifest's tensors are not those of the files", file=folder)
    check_weights(folder, live)


def check_weights(folder: Path, live: Path) -> None:
    """The same for a folder without a manifest: what it holds, against the weights that are live.

    Raises:
        InputError: As `check_checkpoint`.
    """
    check_nothing_runs(folder, live)
    tensors = read_tensors(folder)
    if live.is_dir():
        # vLLM unties a head that is not what the config says.
        tied = is_tied(live) and _holds_no_own_head(live)
        of_live = read_weights(live)
        _compare_tensors(folder, *_named_alike(_read_of(tensors, live), of_live), tied=tied)
        _compare_configs(folder, live)
        if tied and not _holds_no_own_head(folder):
            problem = "differs from the embeddings, to which the model ties it"
            raise InputError(problem, file=folder, record=_TIED)
    check_finite(folder)


def check_nothing_runs(folder: Path, live: Path) -> None:
    """No pickles, no code but the live model's own, and nothing that stands somewhere else.

    Raises:
        InputError: Naming the file.
    """
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            raise InputError("is a link; a checkpoint holds its own files", file=path)
        if path.suffix in PICKLES:
            raise InputError("may run code when it is loaded; use safetensors", file=path)
        if path.suffix == ".py":
            known = live / name
            if not known.is_file() or known.read_bytes() != path.read_bytes():
                raise InputError("is code that the live model does not have", file=path)


def read_tensors(folder: Path) -> dict[str, TensorEntry]:
    """The tensors of all weight files of a folder, by name.

    Raises:
        InputError: If there is none, or a file is not in the safetensors format.
    """
    found = _entries(sorted(folder.glob("*.safetensors")))
    if not found:
        raise InputError("holds no safetensors weights", file=folder)
    return found


def read_weights(folder: Path) -> dict[str, TensorEntry]:
    """The weights of a folder's model by name, without what else its files hold.

    Some repositories hold the same weights once more, in Mistral's format.

    Raises:
        InputError: As `weight_files`, or if the model's config cannot be read.
    """
    return _read_of(_entries(weight_files(folder)), folder)


def weight_names(folder: Path) -> frozenset[str] | None:
    """The names in a model's files, also of those that are not here yet; None: none of them is."""
    if (folder / WEIGHTS_INDEX).is_file():
        return frozenset(read_weights_index(folder))
    if not any(folder.glob("*.safetensors")):
        return None
    return frozenset(_entries(weight_files(folder)))


def _entries(files: Iterable[Path]) -> dict[str, TensorEntry]:
    return {entry.name: entry for file in files for entry in read_safetensors_header(file)}


def _read_of(tensors: dict[str, TensorEntry], folder: Path) -> dict[str, TensorEntry]:
    """Those that are read into the model of a folder's config."""
    config = _config(folder)
    n_layers = (config.get("text_config") or config).get("num_hidden_layers") or math.inf
    layers = {name: _LAYER.match(name) for name in tensors if not _UNREAD.search(name)}
    return {
        name: tensors[name]
        for name, layer in layers.items()
        if layer is None or int(layer[1]) < n_layers
    }


def _named_alike(
    new: dict[str, TensorEntry], live: dict[str, TensorEntry]
) -> tuple[dict[str, TensorEntry], dict[str, TensorEntry]]:
    """Both. Where the live ones lack the prefix of the base model, as GPT-2's on the hub, they are
    named as transformers writes them, which vLLM takes as well.
    """
    prefixes = {name.partition(".")[0] + "." for name in new if name != _TIED}
    if len(prefixes) != 1 or any(name.startswith(tuple(prefixes)) for name in live):
        return new, live
    (prefix,) = prefixes
    return new, {name if name == _TIED else prefix + name: entry for name, entry in live.items()}


def _holds_no_own_head(folder: Path) -> bool:
    """Whether the output projection of a folder, where there is one, is the embeddings."""
    import torch
    from safetensors import safe_open

    entries = read_tensors(folder)
    if (head := entries.get(_TIED)) is None:
        return True
    alike = [name for name, each in entries.items() if name != _TIED and each.shape == head.shape]
    found: dict[str, torch.Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as tensors:
            for name in {*alike, _TIED} & {*tensors.keys()}:
                found[name] = tensors.get_tensor(name).float()
    own = found.pop(_TIED)
    return any(torch.equal(own, each) for each in found.values()) or not found


def _compare_tensors(
    folder: Path, new: dict[str, TensorEntry], live: dict[str, TensorEntry], tied: bool
) -> None:
    optional = {_TIED} if tied else set()
    for problem, names in (
        ("the tensor is missing", live.keys() - new.keys() - optional),
        ("the live model has no such tensor", new.keys() - live.keys() - optional),
    ):
        for name in sorted(names):
            raise InputError(problem, file=folder, record=name)
    for name in sorted(new.keys() & live.keys()):
        if new[name].shape != live[name].shape:
            raise InputError(
                f"has shape {list(new[name].shape)}, the live model {list(live[name].shape)}",
                file=folder,
                record=name,
                field="shape",
            )
        kinds = {new[name].dtype, live[name].dtype}
        if len(kinds) > 1 and not kinds <= FLOATS:
            raise InputError(
                f"holds {new[name].dtype}, the live model {live[name].dtype}",
                file=folder,
                record=name,
                field="dtype",
            )


def _compare_configs(folder: Path, live: Path) -> None:
    new_config, live_config = _config(folder), _config(live)
    keys = new_config.keys() | live_config.keys()
    if _as_written(live) is not None:
        # Who wrote it left defaults out, or did not.
        keys = new_config.keys() & live_config.keys()
    for key in sorted(keys):
        if not _is_incidental(key) and _essence(new_config.get(key)) != _essence(
            live_config.get(key)
        ):
            raise InputError(
                f"is {new_config.get(key)!r}, in the live model {live_config.get(key)!r}",
                file=folder / "config.json",
                field=key,
            )


def _essence(value: object) -> object:
    """A value without what is incidental; models of several parts have a config for each."""
    if isinstance(value, dict):
        return {key: _essence(each) for key, each in value.items() if not _is_incidental(key)}
    return value


def _is_incidental(key: object) -> bool:
    # Only training has a dropout. The keys of labels are numbers.
    return key in _INCIDENTAL or str(key).endswith(("dropout", "pdrop"))


def _config(folder: Path) -> dict[str, Any]:
    """The model's config in transformers' present terms, whatever version wrote it.

    As it is written where only code that comes with the model could read it: none is run here.
    """
    from transformers import AutoConfig

    try:
        if (written := _as_written(folder)) is not None:
            return written
        config = AutoConfig.from_pretrained(folder, local_files_only=True).to_dict()
    except (OSError, ValueError, AttributeError, TypeError) as error:
        # transformers explains at length, over several lines; the first says what is wrong.
        reason = str(error).strip().partition("\n")[0]
        raise InputError(f"cannot be read: {reason}", file=folder / "config.json") from error
    return dict(config)


def _as_written(folder: Path) -> dict[str, Any] | None:
    """The config of a model that only code of its own could read; None of any other."""
    from transformers import CONFIG_MAPPING

    written = json.loads((folder / "config.json").read_bytes())
    if written.get("model_type") in CONFIG_MAPPING or "AutoConfig" not in written.get(
        "auto_map", {}
    ):
        return None
    return {name: written[name] for name in written if name != "auto_map"}


def is_tied(folder: Path) -> bool:
    """Whether the output projection is the embeddings.

    Raises:
        InputError: If the model's config cannot be read.
    """
    return bool(_config(folder).get("tie_word_embeddings"))


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files that the model of a folder consists of.

    Raises:
        InputError: If there is none, or one is missing that the index names.
    """
    if not (folder / WEIGHTS_INDEX).is_file():
        whole = folder / WHOLE_WEIGHTS
        found = [whole] if whole.is_file() else sorted(folder.glob("*.safetensors"))
        if not found:
            raise without_weights(folder, WHOLE_WEIGHTS)
        return found
    shards = sorted(set(read_weights_index(folder).values()))
    for shard in shards:
        if Path(shard).name != shard or not (folder / shard).is_file():
            raise InputError(f"names {shard}, which is missing", file=folder / WEIGHTS_INDEX)
    return [folder / shard for shard in shards]


def read_weights_index(folder: Path) -> dict[str, str]:
    """The file of each tensor; `InputError` if the index is broken."""
    try:
        index = json.loads((folder / WEIGHTS_INDEX).read_bytes())["weight_map"]
        return {str(name): str(shard) for name, shard in index.items()}
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise InputError(f"cannot be read: {error!r}", file=folder / WEIGHTS_INDEX) from error


def without_weights(folder: Path, wanted: str) -> InputError:
    """What to raise where a folder lacks its weights."""
    for path in sorted(folder.iterdir()):
        if path.suffix in PICKLES:
            problem = f"may run code when it is loaded; save the weights as {wanted}"
            return InputError(problem, file=path)
    return InputError(f"holds no {wanted}", file=folder)


def check_whole(model: str, load_format: str | None = None) -> None:
    """Whether the weights of a folder are all there, by what its files say of themselves.

    It takes milliseconds, where a load takes minutes until it fails. Weights in other formats, and
    a model of the hub, are left to those who load them.

    Args:
        load_format: vLLM's flag; where it is given, these files may be none of what is loaded.

    Raises:
        InputError: If a safetensors file is broken, not whole, or missing.
    """
    folder = Path(model)
    endings = {path.suffix for path in folder.glob("*")}
    indexed = (folder / WEIGHTS_INDEX).is_file() and not endings & PICKLES
    if load_format is not None or not (".safetensors" in endings or indexed):
        return
    try:
        # vLLM takes those of Mistral's format where there are such.
        for file in [*folder.glob("consolidated*.safetensors")] or weight_files(folder):
            read_safetensors_header(file)
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", file=folder) from error


def check_finite(folder: Path) -> None:
    """Looks at every value of every weight file.

    Raises:
        InputError: Naming the first tensor with a value that is not finite, or the file that cannot
            be read.
    """
    import torch
    from safetensors import SafetensorError, safe_open

    for file in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(file, framework="pt") as tensors:
                for name in tensors.keys():  # noqa: SIM118  a safetensors handle is no mapping
                    values = tensors.get_tensor(name)
                    if values.is_floating_point() and values.dtype.itemsize == 1:
                        values = values.float()  # torch asks no float8 whether it is finite
                    if not bool(torch.isfinite(values).all()):
                        raise InputError("holds NaN or infinite values", file=file, record=name)
        except SafetensorError as error:  # such as a file that ends too early
            raise InputError(f"cannot be read: {error}", file=file) from error
