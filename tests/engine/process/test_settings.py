"""The settings that suit a machine, and who wins when the user has settings too."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from engine.process.gpu_memory import Gpu
from engine.process.settings import (
    FLOAT32_VARIABLE,
    SHARED_TAILS_VARIABLE,
    EngineSettings,
    choose_settings,
    ranks_here,
)


@pytest.fixture
def without_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # no nvidia-smi there
    for name in choose_settings().environment:
        monkeypatch.delenv(name, raising=False)


def install_nvidia_smi(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


def names(settings: EngineSettings) -> set[str]:
    return {flag.split("=")[0] for flag in settings.flags}


@pytest.mark.usefixtures("without_gpu")
def test_gpus_that_are_known_are_not_asked_for() -> None:
    assert choose_settings(gpus=(Gpu("H", None, None),)).device == "cuda"
    assert choose_settings(gpus=()).device == "cpu"


@pytest.mark.usefixtures("without_gpu")
def test_a_machine_without_gpu() -> None:
    settings = choose_settings()
    assert settings.device == "cpu"
    assert "--dtype=float32" in settings.flags
    (block_size,) = [flag for flag in settings.flags if flag.startswith("--block-size=")]
    assert int(block_size.split("=")[1]) % 32 == 0, "the CPU attention takes nothing else"
    assert settings.environment["VLLM_CPU_NUM_OF_RESERVED_CPU"] == "0"
    quiet = "--disable-access-log-for-endpoints"
    assert f"{quiet}=/ready" in settings.flags, "where its watcher asks"
    assert quiet not in names(choose_settings([f"{quiet}=/health"]))


def test_a_machine_with_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_nvidia_smi(tmp_path, monkeypatch, "echo 'GPU-1, 81559, 3, 9.0, Something'")
    settings = choose_settings()
    assert settings.device == "cuda"
    assert "--dtype=bfloat16" in settings.flags
    assert settings.environment == {}
    assert not {"--block-size", "--kv-transfer-config"} & names(settings)
    monkeypatch.setenv(SHARED_TAILS_VARIABLE, "1")
    assert "--kv-transfer-config" in names(choose_settings())


@pytest.mark.usefixtures("without_gpu")
def test_the_tokenizer_is_the_one_that_training_takes(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model.v3").touch()
    assert "--tokenizer-mode" not in names(choose_settings(model=str(tmp_path))), "the only one"
    (tmp_path / "tokenizer_config.json").touch()
    assert "--tokenizer-mode=hf" in choose_settings(model=str(tmp_path)).flags
    own = choose_settings(["--tokenizer-mode", "mistral"], model=str(tmp_path))
    assert "--tokenizer-mode" not in names(own)
    (tmp_path / "tekken.json").touch()
    assert "--tokenizer-mode" not in names(choose_settings(model=str(tmp_path)))


@pytest.mark.usefixtures("without_gpu")
@pytest.mark.parametrize(
    ("method", "dtype"), [("gptq", "auto"), ("FP8", "auto"), ("compressed-tensors", "float32")]
)
def test_weights_that_vllm_does_not_compute_in_float32(
    tmp_path: Path, method: str, dtype: str
) -> None:
    quantized = {"text_config": {"quantization_config": {"quant_method": method}}}
    for config in (quantized, quantized["text_config"]):
        (tmp_path / "config.json").write_text(json.dumps(config))
        assert f"--dtype={dtype}" in choose_settings(model=str(tmp_path)).flags
    assert "--dtype" not in names(choose_settings(["--dtype=half"], model=str(tmp_path)))
    (tmp_path / "config.json").write_text("[")
    assert "--dtype=float32" in choose_settings(model=str(tmp_path)).flags


def test_an_older_gpu_takes_no_bfloat16(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_nvidia_smi(tmp_path, monkeypatch, "echo 'GPU-1, 15360, 3, 7.5, Tesla T4'")
    settings = choose_settings()
    assert "--dtype=auto" in settings.flags, "vLLM knows which models take no float16"
    assert settings.environment == {}
    both = "echo 'GPU-1, 81559, 3, 9.0, Something'; echo 'GPU-2, 15360, 3, 7.5, Tesla T4'"
    install_nvidia_smi(tmp_path, monkeypatch, both)
    assert "--dtype=float16" in choose_settings().flags, "vLLM's choice goes by the first"


@pytest.mark.usefixtures("without_gpu")
def test_a_drafter_outlasts_a_sleep() -> None:
    kept = "--sleep-preserve-parameter-names"
    assert f"{kept}=draft.*" in choose_settings(["--enable-sleep-mode"]).flags
    assert kept not in names(choose_settings(["--enable-sleep-mode", kept, "draft.lm_head.*"]))
    assert kept not in names(choose_settings())


@pytest.mark.parametrize("given", [["--dtype=float32"], ["--dtype", "float"]])
def test_float32_on_a_gpu_is_not_rounded_to_tf32_unless_the_user_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: list[str]
) -> None:
    monkeypatch.delenv(FLOAT32_VARIABLE, raising=False)
    install_nvidia_smi(tmp_path, monkeypatch, "echo 'GPU-1, 81559, 3, 9.0, Something'")
    settings = choose_settings(given)
    assert settings.environment == {FLOAT32_VARIABLE: "ieee"}
    (reason,) = [line for line in settings.reasons if FLOAT32_VARIABLE in line]
    assert "exact" in reason
    assert len(reason) < 120
    monkeypatch.setenv(FLOAT32_VARIABLE, "tf32")
    settings = choose_settings(given)
    assert settings.environment == {FLOAT32_VARIABLE: "tf32"}
    assert f"{FLOAT32_VARIABLE}=tf32" in settings.reasons


@pytest.mark.parametrize(
    "script",
    ["exit 9", "echo 'No devices were found'", "echo 'GPU-1, 81559, 3, 9.0, Something'; exit 1"],
)
def test_a_driver_without_a_gpu_is_no_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    install_nvidia_smi(tmp_path, monkeypatch, script)
    assert choose_settings().device == "cpu"


def test_a_gpu_that_is_hidden_is_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_nvidia_smi(tmp_path, monkeypatch, "echo 'GPU-1, 81559, 3, 9.0, Something'")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert choose_settings().device == "cpu"


@pytest.mark.usefixtures("without_gpu")
@pytest.mark.parametrize(
    ("given", "ranks"),
    [
        ([], 1),
        (["--tensor-parallel-size=2"], 2),
        (["-tp", "2", "-pp=2"], 4),
        (["--data_parallel_size", "4", "-tp=2"], 8),
        (["-dp=4", "-dpl", "2"], 2),
        (["-tp=4", "--nnodes=2"], 2),
        (["-tp=4", "--distributed-executor-backend=ray"], 1),
    ],
)
def test_ranks_on_one_cpu_get_cores_of_their_own(
    monkeypatch: pytest.MonkeyPatch, given: list[str], ranks: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    assert ranks_here(given) == ranks
    bound = choose_settings(given).environment.get("VLLM_CPU_OMP_THREADS_BIND")
    assert (bound.count("|") + 1 if bound else 1) == ranks


@pytest.mark.usefixtures("without_gpu")
def test_compilation_is_for_long_runs() -> None:
    assert "--enforce-eager" not in choose_settings(long_running=True).flags
    assert "--enforce-eager" in choose_settings(long_running=False).flags


@pytest.mark.usefixtures("without_gpu")
@pytest.mark.parametrize(
    "given", [["--dtype=bfloat16"], ["--dtype", "bfloat16"], ["--max_num_seqs=8", "--dtype=half"]]
)
def test_what_the_user_names_is_left_to_the_user(given: list[str]) -> None:
    named = {arg.split("=")[0].replace("_", "-") for arg in given if arg.startswith("--")}
    settings = choose_settings(given)
    assert names(settings) == names(choose_settings()) - named
    assert not any("--dtype" in reason for reason in settings.reasons)


@pytest.mark.usefixtures("without_gpu")
@pytest.mark.parametrize("given", ["--enforce-eager", "--no-enforce-eager", "--enforce_eager"])
def test_a_switch_and_its_opposite_are_the_same_setting(given: str) -> None:
    assert not names(choose_settings([given], long_running=False)) & {
        "--enforce-eager",
        "--no-enforce-eager",
    }


@pytest.mark.usefixtures("without_gpu")
def test_the_environment_of_the_user_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "17")
    settings = choose_settings()
    assert settings.environment["VLLM_CPU_KVCACHE_SPACE"] == "17"
    assert "VLLM_CPU_KVCACHE_SPACE=17" in settings.reasons


@pytest.mark.usefixtures("without_gpu")
def test_reasons_are_lines_for_a_person() -> None:
    for reason in choose_settings(long_running=False).reasons:
        assert "\n" not in reason
        assert len(reason) < 120


@pytest.mark.usefixtures("without_gpu")
def test_prefixes_are_shared_to_their_last_token_with_a_vllm_that_is_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert "--kv-transfer-config" in names(choose_settings())
    given = choose_settings(["--kv-transfer-config={}"])
    assert "--kv-transfer-config" not in names(given), "a connector of the user's own comes first"
    monkeypatch.setattr("importlib.metadata.version", lambda name: "0.99.0")
    assert "--kv-transfer-config" not in names(choose_settings())
