"""Tiny models of other families than the bundled one's, with other tokens and chats, all the way.

Each goes through scoring, a run of one round, the reload of what it trained and of what
transformers and peft save, and evaluation, on an engine of its own; every number and every token is
held against transformers.
"""

from __future__ import annotations

import copy
import io
import json
import math
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import httpx
import polars as pl
import pytest
import torch
from peft import LoraConfig, get_peft_model
from rich.console import Console
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from engine.client import EngineClient
from engine.process.engine_process import EngineProcess
from engine.prompts import PromptBuilder
from engine.protocol.completions import TokenPair
from engine.protocol.score_config import ScoreConfig
from engine.tasks import Instance, Pool, Task
from engine.weights.manifest import Manifest
from tests.engine.small_tokenizers import chat, gemma, gpt2
from tests.integration.reference import Reference
from tests.integration.test_scoring_exact import worst_difference
from tests.training.tiny import save_tiny_model
from training.commands.launch import make_builder, run_config
from training.commands.publish_folder import publish_folder
from training.config.run_config import RunConfig
from training.evaluation.evaluator import Evaluator, build_evaluation_set
from training.report.display import RichProgress
from training.run.run_folder import RunFolder
from training.run.run_pools import Pools

pytestmark = [pytest.mark.integration, pytest.mark.slow]

SHAPE: dict[str, Any] = {
    "vocab_size": 448,
    "hidden_size": 64,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 512,
    "initializer_range": 0.2,
}
OF_FAMILY: dict[str, dict[str, Any]] = {
    "gemma2": {"head_dim": 32, "sliding_window": 32, "query_pre_attn_scalar": 32},
    "qwen3_moe": {
        "head_dim": 32,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 32,
    },
}
QWEN = {
    "do_sample": True,
    "temperature": 0.7,
    "top_p": 0.8,
    "top_k": 20,
    "repetition_penalty": 1.5,
}


class Model(NamedTuple):
    """A model folder to be.

    Attributes:
        tokenizer: Its tokenizer.
        end: The token that ends its outputs.
        generation: What its generation config says.
        prompt: How its prompts are laid out.
        family: What it is built like.
        flags: What its engine is started with.
    """

    tokenizer: Callable[[], Any]
    end: str
    generation: dict[str, Any]
    prompt: dict[str, Any]
    family: str = "llama"
    flags: tuple[str, ...] = ()


# Both have logits of their own, and requests of their own beside pairs.
ADAPTERS_AND_DRAFTS = (
    "--enable-lora",
    "--max-lora-rank=8",
    '--speculative-config={"method": "ngram", "num_speculative_tokens": 3, "prompt_lookup_max": 4}',
)

MODELS = {
    "turn_end": Model(gemma, "<end_of_turn>", {}, {}, "gemma2"),
    "penalty": Model(chat, "<|im_end|>", QWEN, {"strip_end_tokens": True}, "qwen3_moe"),
    "no_template": Model(
        gpt2, "<|endoftext|>", {}, {"layout": "alpaca"}, flags=ADAPTERS_AND_DRAFTS
    ),
    "gpt2": Model(gpt2, "<|endoftext|>", {}, {"layout": "alpaca"}, "gpt2"),
}


def make_task(name: str, end: str) -> Task:
    """Golds are blank, have blanks at their ends, and hold the text of the end token."""
    return Task(
        id=name,
        definition=f"Say the color of the thing, {name}{end}",
        instances=(
            Instance(id="sky", input="sky", outputs=("", " blue ")),
            Instance(id="grass", input=f"grass {end} sea", outputs=("green",)),
            Instance(id="blood", input="blood", outputs=(f"red {end}",)),
        ),
    )


def make_folder(model: Model, folder: Path) -> Reference:
    """The model in transformers, its folder written."""
    shape = SHAPE | OF_FAMILY.get(model.family, {})
    save_tiny_model(folder, tied=True, tokenizer=model.tokenizer(), family=model.family, **shape)
    weights = folder / "model.safetensors"
    if model.family == "gpt2":
        name_as_on_the_hub(weights)
    if model.family == "qwen3_moe":  # the hub's Qwen3 hold the tied head once more
        tensors = load_file(weights)
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
        save_file(tensors, weights, metadata={"format": "pt"})
    path = folder / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | model.generation))
    return Reference(folder)


def name_as_on_the_hub(weights: Path) -> None:
    """GPT-2's own files lack the prefix of the base model, and hold masks beside the weights."""
    tensors = {
        name.removeprefix("transformer."): value for name, value in load_file(weights).items()
    }
    blocks = {name.split(".")[1] for name in tensors if name.startswith("h.")}
    tensors |= {f"h.{block}.attn.bias": torch.ones(1, 1, 512, 512).tril() for block in blocks}
    save_file(tensors, weights, metadata={"format": "pt"})


def make_config(model: Model, folder: Path, url: str) -> RunConfig:
    return RunConfig.model_validate(
        {
            "model": {"name": str(folder), "max_model_len": 512},
            "score": {
                "n_instances": 3,
                "n_perturbations": 2,
                "max_output_tokens": 8,
                "prompt": model.prompt,
            },
            "select": {"n_tasks": 2},
            "train": {"epochs": 30, "learning_rate": 0.02, "batch_size": 6},
            "evaluate": {"max_new_tokens": 12, "gold_perplexity": True},
            "engine": {"urls": [url]},
            "rounds": 1,
        }
    )


def greedy(model: Reference, prompt: tuple[int, ...], n: int, end: int) -> list[int]:
    """What transformers takes token by token, to the end of the turn or of `n` tokens."""
    output: list[int] = []
    while len(output) < n and output[-1:] not in ([end], [model.tokenizer.eos_token_id]):
        with torch.inference_mode():
            logits = model.model(torch.tensor([[*prompt, *output]])).logits[0, -1]
        output.append(int(logits.argmax()))
    return output


def check_scores(
    client: EngineClient, tasks: list[Task], config: ScoreConfig, model: Reference
) -> list[float | None]:
    """References and likelihoods against transformers; the prompt uncertainties."""
    builder = PromptBuilder(model.tokenizer, config.prompt, 512)
    found = []
    for reference in ("generated", "gold"):
        chosen = config.model_copy(update={"reference": reference})
        scores = list(client.score(tasks, chosen))
        worst, n_pairs = worst_difference(tasks, scores, chosen, model)
        assert n_pairs == 9 * len(tasks)
        assert worst < 1e-4
        for task, score in zip(tasks, scores, strict=True):
            for instance, one in zip(builder.clean(task).instances, score.references, strict=True):
                if reference == "gold":
                    assert one.token_ids == builder.completion(instance.outputs[0])
                    assert one.token_ids[-1] == builder.end
                else:
                    prompt = builder.prompt(task, instance, config.max_output_tokens).token_ids
                    expected = greedy(model, prompt, config.max_output_tokens, builder.end)
                    assert list(one.token_ids) == expected
        found.append([score.prompt_uncertainty for score in scores])
        assert all(pair.probability > 0 for score in scores for pair in score.pairs)
    return found[0]


@pytest.mark.parametrize("name", [*list(MODELS)[:3], pytest.param("gpt2", marks=pytest.mark.long)])
def test_a_model_goes_all_the_way(name: str, tmp_path: Path) -> None:
    model = MODELS[name]
    base = make_folder(model, tmp_path / "model")
    tasks = [make_task(f"task-{number}", model.end) for number in range(3)]
    held_out = make_task("held-out", model.end)
    with EngineProcess.start(
        str(tmp_path / "model"),
        weights_root=tmp_path,
        log_file=tmp_path / "engine.log",
        extra_args=model.flags,
    ) as engine:
        engine.wait_ready(300)
        config = make_config(model, tmp_path / "model", engine.url)
        builder = make_builder(str(tmp_path / "model"), config)
        assert builder.end == base.tokenizer.convert_tokens_to_ids(model.end)
        with EngineClient(engine.url) as client:
            before = check_scores(client, tasks, config.score, base)
            if model.generation:
                check_own_requests(client, engine.url, base)
            folder = RunFolder(tmp_path / "run")
            pools = Pools(Pool(tasks), Pool([held_out]), "made here")
            with RichProgress(Console(file=io.StringIO())) as progress:
                run_config(folder, config, pools, progress, location=str(tmp_path / "model"))
            scores = pl.read_parquet(folder.round(0).scores)
            assert scores["prompt_uncertainty"].to_list() == pytest.approx(before, abs=1e-6)
            trained = Reference(folder.round(0).checkpoint)
            check_scores(client, tasks, config.score, trained)
            check_evaluation(client, folder, held_out, config, trained)
            check_published(client, trained, tmp_path / "model", tmp_path)


def check_published(client: EngineClient, trained: Reference, base: Path, root: Path) -> None:
    """What `save_pretrained` writes is published, loaded, and then the engine's."""
    pairs = [
        TokenPair(prompt_token_ids=range(n, 2 * n), completion_token_ids=(n, 9, 400 - n))
        for n in (7, 70, 130)
    ]

    def check(saved: Path, expected: Reference | None = None) -> Manifest:
        manifest = publish_folder(saved, root / f"{saved.name}-published")
        client.load_weights(root / f"{saved.name}-published", manifest.version)
        model = expected or Reference(saved)
        answer = client.completion_logprobs(pairs, tokens=True)
        for pair, found in zip(pairs, answer.results, strict=True):
            values = model.token_logprobs(pair.prompt_token_ids, pair.completion_token_ids)
            assert list(found.token_logprobs or ()) == pytest.approx(values, abs=1e-4)
        return manifest

    for dtype, size in (("float32", "20KB"), ("bfloat16", "1GB"), ("float16", "20KB")):
        model = copy.deepcopy(trained.model)
        for parameter in model.parameters():
            parameter.data *= 1.1
        model.to(getattr(torch, dtype)).save_pretrained(root / dtype, max_shard_size=size)
        trained.tokenizer.save_pretrained(root / dtype)
        manifest = check(root / dtype)
        assert (len(manifest.weight_files) == 1) is (size == "1GB")
        assert manifest.dtype == dtype
    if trained.model.config.model_type in ("gpt2", "qwen3_moe"):
        return  # the matrices of one lie the other way round, the experts of the other in one
    plain = AutoModelForCausalLM.from_pretrained(base, attn_implementation="eager")
    adapted: Any = get_peft_model(plain, LoraConfig(r=4, target_modules="all-linear"))
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    adapted.save_pretrained(root / "adapter")
    merged = copy.copy(trained)
    merged.model = adapted.merge_and_unload().eval()
    assert check(root / "adapter", merged).kind == "lora"


def check_evaluation(
    client: EngineClient, folder: RunFolder, task: Task, config: RunConfig, model: Reference
) -> None:
    """What the run says of the trained model, and what `jostle eval` would say."""
    builder = PromptBuilder(model.tokenizer, config.score.prompt, 512)
    evaluator = Evaluator(
        build_evaluation_set([task], builder, config.evaluate), config.evaluate.max_new_tokens
    )
    assert list(evaluator.run(client)) == [(1, task.id)]
    means = []
    for instance, output in zip(builder.clean(task).instances, evaluator.outputs, strict=True):
        prompt = builder.prompt(task, instance, config.evaluate.max_new_tokens).token_ids
        ids = greedy(model, prompt, config.evaluate.max_new_tokens, builder.end)
        assert output.output == builder.decode(ids)
        means.append(fmean(model.token_logprobs(prompt, builder.completion(output.gold[0]))))
    evaluation = evaluator.result()
    assert evaluation.overall.gold_perplexity == pytest.approx(math.exp(-fmean(means)), rel=1e-4)
    if model.model.config.model_type != "gpt2":  # which learns no more than the words so fast
        # It has learnt its answers, and ends them.
        assert evaluation.overall.exact_match > 0
    metrics = json.loads(folder.round(0).metrics.read_text())
    assert metrics["evaluation"] == json.loads(evaluation.model_dump_json())


def check_own_requests(client: EngineClient, url: str, model: Reference) -> None:
    """A user's own requests keep vLLM's habit, by which the generation config counts."""
    prompts = [[token] * 9 for token in range(5, 25)]
    body = {"model": str(model.folder), "prompt": prompts, "max_tokens": 12, "temperature": 0}
    answer = httpx.post(f"{url}/v1/completions", json=body, timeout=60, trust_env=False).json()
    texts = [choice["text"] for choice in answer["choices"]]
    assert len(texts) == len(prompts)
    assert texts != client.generate(prompts, 12)
