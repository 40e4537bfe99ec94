"""The real trainer process on a tiny random model: what it trains, writes and proves."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from safetensors.torch import load_file

from engine.errors import InputError, TrainingError
from engine.prompts import PromptBuilder
from engine.prompts.prompt_config import PromptConfig
from engine.protocol.completions import TokenPair
from engine.weights.adapter import ADAPTER_CONFIG, ADAPTER_WEIGHTS, merged
from engine.weights.adapter_check import base_digest, check_adapter
from engine.weights.manifest import Manifest, check_files, read_manifest
from tests.training.fakes import make_task
from tests.training.tiny import make_tokenizer, save_tiny_model
from training.config.run_config import LoraConfig, RunConfig, TrainConfig
from training.trainer.checkpoint import publish
from training.trainer.resume import fingerprint, newest_checkpoint, start_of
from training.trainer.trainer_check import check_trainable, check_trainer
from training.trainer.trainer_process import (
    TrainJob,
    TrainProgress,
    TrainResult,
    WaitingTrainer,
    run_trainer,
)
from training.trainer.training_rows import build_rows, choose_probes

pytestmark = [pytest.mark.slow, pytest.mark.integration]

CONFIG = RunConfig.model_validate(
    {
        "model": {"max_model_len": 128},
        "score": {"max_output_tokens": 8},
        "train": {
            "learning_rate": 1e-2,
            "epochs": 10,
            "batch_size": 3,
            "instances_per_task": 4,
            "precision": "float32",
        },
    }
)


def make_job(folder: Path, *, tied: bool, family: str = "llama", **train: object) -> TrainJob:
    save_tiny_model(folder / "base", tied=tied, family=family)
    builder = PromptBuilder(make_tokenizer(), PromptConfig(), 128)
    tasks = [make_task("color", "say color of"), make_task("reverse", "reverse word")]
    rows = build_rows(tasks, builder, CONFIG)
    rows.frame.write_parquet(folder / "rows.parquet")
    return TrainJob(
        model=str(folder / "base"),
        start=start_of(str(folder / "base")),
        config=CONFIG.train.model_copy(update=train),
        rows=folder / "rows.parquet",
        probes=choose_probes(rows.frame, 4),
        attempt=folder / "attempt-0",
        output=folder / "output",
        progress=folder / "progress.jsonl",
        result=folder / "result.json",
    )


def run_job(
    job: TrainJob, folder: Path, waiting: WaitingTrainer | None = None
) -> tuple[TrainResult, list[TrainProgress]]:
    seen: list[TrainProgress] = []
    result = run_trainer(
        job,
        job_file=folder / "job.json",
        log_file=folder / "log.txt",
        on_progress=seen.append,
        waiting=waiting,
    )
    return result, seen


def transformers_logprobs(folder: Path, pair: TokenPair) -> list[float]:
    import torch
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model.eval()
    ids = torch.tensor([[*pair.prompt_token_ids, *pair.completion_token_ids]])
    with torch.no_grad():
        table = model(ids).logits[0].log_softmax(-1)
    start = len(pair.prompt_token_ids)
    return [float(table[i - 1, ids[0, i]]) for i in range(start, ids.shape[1])]


def mean_completion_loss(folder: Path, rows: pl.DataFrame) -> float:
    values = [
        value
        for row in rows.iter_rows(named=True)
        for value in transformers_logprobs(
            folder,
            TokenPair(
                prompt_token_ids=row["prompt_token_ids"],
                completion_token_ids=row["completion_token_ids"],
            ),
        )
    ]
    return -sum(values) / len(values)


@pytest.mark.parametrize("tied", [True, False])
def test_training_writes_a_checkpoint_that_proves_itself(tmp_path: Path, tied: bool) -> None:
    job = make_job(tmp_path, tied=tied)
    result, seen = run_job(job, tmp_path, WaitingTrainer(job.model) if tied else None)

    assert result.rows == 8
    assert result.fingerprint == fingerprint(job)
    assert result.steps == len(result.losses) == 30
    assert result.losses[-1] < 0.5 * result.losses[0]
    assert seen[0].phase == "loading"
    assert [each.step for each in seen if each.phase == "training"] == list(range(1, 31))
    assert seen[-1].phase == "saving"
    rows = pl.read_parquet(job.rows)
    before = mean_completion_loss(tmp_path / "base", rows)
    assert mean_completion_loss(result.output, rows) < 0.5 * before

    checkpoint = tmp_path / "checkpoint"
    manifest = publish(result, checkpoint, 0)
    assert publish(result, checkpoint, 0) == manifest
    assert read_manifest(checkpoint) == manifest
    check_files(checkpoint, manifest)
    check_manifest(manifest, checkpoint, tmp_path / "base", tied)


def check_manifest(manifest: Manifest, checkpoint: Path, base: Path, tied: bool) -> None:
    from safetensors.torch import load_file

    stored = load_file(checkpoint / "model.safetensors")
    assert {entry.name: entry.shape for entry in manifest.tensors} == {
        name: tuple(tensor.shape) for name, tensor in stored.items()
    }
    assert ("lm_head.weight" in stored) is not tied
    assert {entry.dtype for entry in manifest.tensors} == {"F32"}
    assert stored.keys() == load_file(base / "model.safetensors").keys()
    for probe in manifest.probes:
        pair = TokenPair(
            prompt_token_ids=probe.prompt_token_ids,
            completion_token_ids=probe.completion_token_ids,
        )
        expected = transformers_logprobs(checkpoint, pair)
        assert list(probe.token_logprobs) == pytest.approx(expected, abs=1e-5)
        assert transformers_logprobs(base, pair) != pytest.approx(expected, abs=1e-2)
    old, new = (json.loads((each / "config.json").read_text()) for each in (base, checkpoint))
    assert old == new
    names = {path.name for path in checkpoint.iterdir()}
    assert names >= {"manifest.json", "tokenizer.json", "tokenizer_config.json"}
    assert not names & {"optimizer.pt", "training_args.bin"}


class InterruptedTrainingError(Exception):
    """Stands for the death of the parent."""


# The second has weights of other names in its files than in memory.
@pytest.mark.parametrize("family", ["llama", "gpt_neox"])
def test_an_interrupted_training_goes_on_and_ends_with_the_same_bits(
    family: str, tmp_path: Path
) -> None:
    for name in ("whole", "cut"):
        (tmp_path / name).mkdir()
    how: dict[str, Any] = {"tied": family == "llama", "family": family, "checkpoint_steps": 4}
    whole, _ = run_job(make_job(tmp_path / "whole", **how), tmp_path / "whole")
    folder = tmp_path / "cut"
    job = make_job(folder, **how)

    def interrupt(progress: TrainProgress) -> None:
        if progress.step == 14:
            raise InterruptedTrainingError

    with pytest.raises(InterruptedTrainingError):
        run_trainer(
            job, job_file=folder / "job.json", log_file=folder / "log", on_progress=interrupt
        )
    found = newest_checkpoint(folder, fingerprint(job))
    assert found is not None
    left = int(found.name.removeprefix("checkpoint-"))
    assert left >= 12
    again = job.model_copy(update={"attempt": folder / "attempt-1", "resume_from": found})
    cut, seen = run_job(again, folder)
    assert min(each.step for each in seen if each.phase == "training") == left + 1
    assert cut.losses == whole.losses
    assert cut.probes == whole.probes
    versions = [
        publish(each, each.output.parent / "checkpoint", 3).version for each in (whole, cut)
    ]
    assert versions[0] == versions[1]
    assert versions[0].startswith("round-03-")


@pytest.mark.parametrize("family", ["llama", "gpt_neox"])
def test_validation_keeps_the_best_weights(family: str, tmp_path: Path) -> None:
    tied = family == "llama"
    job = make_job(tmp_path, tied=tied, family=family, learning_rate=0.05, epochs=6)
    # Words that no answer holds: the longer the training, the less likely they are.
    rows = pl.read_parquet(job.rows).to_dicts()
    wrong = pl.DataFrame([row | {"completion_token_ids": [5, 6]} for row in rows])
    wrong.write_parquet(tmp_path / "validation.parquet")
    job = job.model_copy(update={"validation_rows": tmp_path / "validation.parquet"})
    result, _ = run_job(job, tmp_path)
    assert [step for step, _ in result.validation_losses] == [3, 6, 9, 12, 15, 18]
    best_step, best = min(result.validation_losses, key=lambda each: each[1])
    assert result.best_step == best_step < 18
    assert mean_completion_loss(result.output, wrong) == pytest.approx(best, abs=0.05)


def test_adapters_are_merged_into_what_is_published(tmp_path: Path) -> None:
    job = make_job(tmp_path, tied=False, lora=LoraConfig(rank=4), epochs=5, checkpoint_steps=5)
    result, _ = run_job(job, tmp_path)
    assert result.losses[-1] < result.losses[0]
    manifest = publish(result, tmp_path / "checkpoint", 0)
    check_manifest(manifest, tmp_path / "checkpoint", tmp_path / "base", tied=False)


def test_an_adapter_alone_is_published_and_proves_the_same(tmp_path: Path) -> None:
    manifests, merged_weights = {}, {}
    for publish_as in ("merged", "adapter"):
        folder = tmp_path / publish_as
        folder.mkdir()
        lora = LoraConfig(rank=4)
        job = make_job(folder, tied=True, lora=lora, epochs=3, publish=publish_as)
        result, _ = run_job(job, folder)
        manifests[publish_as] = publish(result, folder / "checkpoint", 0)
        weights = load_file(folder / "base" / "model.safetensors")
        if publish_as == "merged":
            weights = load_file(folder / "checkpoint" / "model.safetensors")
        else:
            weights = dict(merged(weights.items(), folder / "checkpoint"))
        merged_weights[publish_as] = weights

    adapter = manifests["adapter"]
    folder = tmp_path / "adapter" / "checkpoint"
    assert adapter.kind == "lora"
    assert adapter.base_digest == base_digest(tmp_path / "adapter" / "base")
    assert {entry.name for entry in adapter.files} == {ADAPTER_CONFIG, ADAPTER_WEIGHTS}
    assert adapter == read_manifest(folder)
    check_adapter(folder, adapter, tmp_path / "adapter" / "base")
    # What the engine makes of it is what would have been published whole, and so are the probes.
    assert adapter.probes == manifests["merged"].probes
    for name, tensor in merged_weights["merged"].items():
        assert torch.allclose(tensor, merged_weights["adapter"][name], rtol=1e-6, atol=1e-7), name


def test_wrong_training_arguments_are_told_before_there_is_a_job() -> None:
    wrong = TrainConfig(arguments={"wait_decay": 1})
    with pytest.raises(InputError, match=r"train.arguments.wait_decay: no such argument"):
        check_trainer(wrong)
    nowhere = TrainConfig(report_to=("wandbb",))
    with pytest.raises(InputError, match=r"train.report_to: wandbb is not supported"):
        check_trainer(nowhere)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"lora": LoraConfig(target_modules=("q_prj",))}, r"Target modules .*q_prj.* not found"),
        ({"attention": "flush"}, r"train.attention: .*flush"),
        ({"attention": "flush", "lora": LoraConfig(), "launcher": ("srun",)}, None),
        ({"lora": LoraConfig(target_modules=("q_proj", "embed_tokens"))}, r"are one tensor"),
        ({"lora": LoraConfig(target_modules=("q_proj", "lm_head"))}, r"are one tensor"),
        (
            {"lora": LoraConfig(target_modules=("lm_head",)), "tied": False},
            r"no adapter of the out",
        ),
        ({"lora": LoraConfig()}, None),
    ],
)
def test_what_the_model_lacks_is_told_before_there_is_a_job(
    tmp_path: Path, fields: dict[str, Any], told: str | None
) -> None:
    save_tiny_model(tmp_path, tied=fields.get("tied", True))
    fields = {name: value for name, value in fields.items() if name != "tied"}
    expected = pytest.raises(InputError, match=told) if told else contextlib.nullcontext()
    with expected:
        check_trainable(RunConfig(train=TrainConfig(**fields)), str(tmp_path))


def test_a_loss_that_is_not_finite_ends_the_training_where_it_is_seen(tmp_path: Path) -> None:
    job = make_job(tmp_path, tied=True, learning_rate=1e30)
    with pytest.raises(TrainingError, match=r"the loss of step \d is (nan|inf)"):
        run_job(job, tmp_path)


def test_any_training_argument_is_passed_on(tmp_path: Path) -> None:
    """One batch holds all rows: its loss must be the base model's loss on completion tokens."""
    job = make_job(tmp_path, tied=True, batch_size=8, arguments={"max_steps": 2})
    result, _ = run_job(job, tmp_path)
    assert result.steps == 2
    expected = mean_completion_loss(tmp_path / "base", pl.read_parquet(job.rows))
    assert result.losses[0] == pytest.approx(expected, abs=1e-4)


def test_behind_a_launcher_a_training_ends_with_its_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.getpid", lambda: 2**22 + 1)  # above every process id there is
    job = make_job(tmp_path, tied=True, launcher=("env",))
    with pytest.raises(TrainingError, match=r"the run of process 4194305 is gone"):
        run_job(job, tmp_path)
