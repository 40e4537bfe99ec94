"""Models of many architectures, tiny and random, on the real engine: whether the numbers are exact.

    python -m benchmarks.architectures                        # goes on where it was
    python -m benchmarks.architectures --only gemma2,mixtral  # prints these; the result stays

Each is made by transformers, served, asked for pairs of bundled tasks, then loads what a trainer
has published, what `save_pretrained` writes in bfloat16, and an adapter of peft. Every number is
held against transformers, one pair at a time, in float32.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
import torch

from benchmarks.common import small_models
from benchmarks.common.checkpoints import as_trained
from benchmarks.common.lines import append_line, read_lines
from benchmarks.common.result_file import ResultFile
from benchmarks.common.small_models import (
    CONTEXT,
    SMALL_MODELS,
    add_noise,
    make_small_model,
    read_model,
)
from engine.bench.machine_facts import this_machine
from engine.client import EngineClient
from engine.pools.bundled import training_pool
from engine.process.engine_process import EngineProcess
from engine.prompts import PromptBuilder
from engine.protocol.completions import TokenPair
from engine.protocol.score_config import ScoreConfig
from training.commands.publish_folder import publish_folder
from training.trainer.checkpoint import publish

JOURNAL = Path("runs/architectures.jsonl")
STEPS = ("first", "vllm", "again", "greedy", "trained", "saved", "adapter")
LENGTHS = (1, 5, 30)
GENERATED = ScoreConfig(n_instances=2, n_perturbations=1, max_output_tokens=8)


def make_pairs(tokenizer: Any) -> list[TokenPair]:
    """Prompts of bundled tasks that share prefixes, with random completions of three lengths."""
    rng = random.Random(0)
    builder = PromptBuilder(tokenizer, ScoreConfig().prompt, 1024)
    prompts = [
        builder.prompt(task, instance, max(LENGTHS)).token_ids
        for task in list(training_pool())[:4]
        for instance in task.instances[:3]
    ]
    return [
        TokenPair(
            prompt_token_ids=prompt,
            completion_token_ids=tuple(rng.randrange(3, 49000) for _ in range(length)),
        )
        for prompt in prompts
        for length in LENGTHS
    ]


class Trial:
    """One architecture on its engine.

    Args:
        name: Of `SMALL_MODELS`.
        root: An empty folder for all that is written.
    """

    def __init__(self, name: str, root: Path) -> None:
        self._root, self._folder = root, root / "model"
        self.found: dict[str, Any] = {"name": name}

    def run(self) -> dict[str, Any]:
        """What each step found: a number, or what went wrong."""
        if not self._note("made", self._make):
            return self.found
        began = time.monotonic()
        with EngineProcess.start(
            str(self._folder), weights_root=self._root, log_file=self._root / "engine.log"
        ) as engine:

            def start() -> float:
                engine.wait_ready(300)
                return time.monotonic() - began

            if self._note("started", start):
                with EngineClient(engine.url) as self._client:
                    self._note("first", lambda: self._worst(self._model))
                    self._note("vllm", lambda: self._own_route(engine.url))
                    self._note("again", self._again)
                    self._note("greedy", self._greedy)
                    self._note("trained", self._load_trained)
                    self._note("saved", self._load_saved)
                    self._note("adapter", self._load_adapter)
        return self.found

    def _note(self, step: str, act: Callable[[], Any]) -> bool:
        try:
            self.found[step] = act()
        except (ValueError, TypeError, ImportError, RuntimeError) as error:  # ours are among them
            self.found[step] = f"{type(error).__name__}: {error}".replace(str(self._root), "")
            return False
        return True

    def _make(self) -> bool:
        self._model, self._tokenizer = make_small_model(
            SMALL_MODELS[self.found["name"]], self.found["name"], self._folder
        )
        self._pairs = make_pairs(self._tokenizer)
        return True

    def _worst(self, model: Any) -> float:
        """The largest difference of a token's log-probability to what transformers says."""
        answer = self._client.completion_logprobs(self._pairs, tokens=True)
        self._answer = answer
        worst = 0.0
        for pair, found in zip(self._pairs, answer.results, strict=True):
            for a, b in zip(logprobs(model, pair), found.token_logprobs or (), strict=True):
                worst = max(worst, abs(a - b))
        return worst

    def _own_route(self, url: str) -> float:
        """The largest difference to what vLLM says itself, with log-probabilities of the prompt."""
        worst = 0.0
        for pair, ours in list(zip(self._pairs, self._answer.results, strict=True))[-3:]:
            ids = [*pair.prompt_token_ids, *pair.completion_token_ids]
            body = {"model": str(self._folder), "prompt": ids, "max_tokens": 1}
            answer = httpx.post(
                f"{url}/v1/completions", json=body | {"prompt_logprobs": 0}, timeout=60
            )
            rows = answer.json()["choices"][0]["prompt_logprobs"][-len(pair.completion_token_ids) :]
            found = [
                row[str(token)]["logprob"]
                for row, token in zip(rows, pair.completion_token_ids, strict=True)
            ]
            moves = zip(found, ours.token_logprobs or (), strict=True)
            worst = max(worst, *(abs(a - b) for a, b in moves))
        return worst

    def _again(self) -> tuple[float, float, int]:
        """The difference; the share of tokens the cache supplied; pairs computed twice."""
        worst = self._worst(self._model)
        usage = self._answer.usage
        return worst, usage.tokens_reused / usage.tokens_submitted, usage.pairs_rescored

    def _greedy(self) -> float:
        """The share of generated tokens that are the likeliest in their place."""
        builder, likeliest = PromptBuilder(self._tokenizer, GENERATED.prompt, CONTEXT), []
        tasks = list(training_pool())[:4]
        for task, score in zip(tasks, self._client.score(tasks, GENERATED), strict=True):
            instances = {each.id: each for each in task.instances}
            names = dict.fromkeys(pair.instance_id for pair in score.pairs)
            for name, output in zip(names, score.references, strict=True):
                prompt = builder.prompt(task, instances[name], GENERATED.max_output_tokens)
                pair = TokenPair(
                    prompt_token_ids=prompt.token_ids, completion_token_ids=output.token_ids
                )
                tokens = torch.tensor(output.token_ids)
                likeliest += (rows(self._model, pair).argmax(-1) == tokens).tolist()
        return sum(likeliest) / len(likeliest)

    def _load_trained(self) -> float:
        """Weights as a trainer leaves them, with probes of the model in its memory."""
        model = self._changed(1)
        work, target = self._root / "work", self._root / "trained"
        self._save(model, work)
        probes = [(p.prompt_token_ids, p.completion_token_ids) for p in self._pairs[1:9]]
        result = as_trained(model, self._tokenizer, self._folder, work, probes)
        manifest = publish(result, target, round_index=1)
        self._client.load_weights(target, manifest.version)
        return self._worst(model)

    def _load_saved(self) -> float:
        """What `save_pretrained` writes in half precision, in several files."""
        saved, target = self._root / "saved", self._root / "saved-published"
        self._save(self._changed(2).to(torch.bfloat16), saved)
        self._client.load_weights(target, publish_folder(saved, target).version)
        return self._worst(read_model(saved))

    def _load_adapter(self) -> float:
        """An adapter for all linear layers."""
        from peft import LoraConfig, get_peft_model

        config = LoraConfig(r=4, target_modules="all-linear", init_lora_weights="gaussian")
        adapted = get_peft_model(copy.deepcopy(self._model), config)
        torch.manual_seed(3)
        with torch.no_grad():
            for name, parameter in adapted.named_parameters():
                if "lora_B" in name:
                    parameter.normal_(std=0.05)
        saved, target = self._root / "adapter", self._root / "adapter-published"
        adapted.save_pretrained(str(saved))
        self._client.load_weights(target, publish_folder(saved, target).version)
        return self._worst(adapted.merge_and_unload())

    def _changed(self, seed: int) -> Any:
        return add_noise(copy.deepcopy(self._model), seed, 0.1)

    def _save(self, model: Any, folder: Path) -> None:
        model.save_pretrained(folder, max_shard_size="2MB")
        self._tokenizer.save_pretrained(folder)


def rows(model: Any, pair: TokenPair) -> Any:
    """Log-probabilities of the vocabulary in the place of each token of a completion."""
    ids = torch.tensor([[*pair.prompt_token_ids, *pair.completion_token_ids]])
    with torch.inference_mode():
        logits = model(ids, use_cache=False).logits[0, len(pair.prompt_token_ids) - 1 : -1]
    return logits.float().log_softmax(-1)


def logprobs(model: Any, pair: TokenPair) -> list[float]:
    """Those of the completion's tokens."""
    found = rows(model, pair)
    return [float(row[token]) for row, token in zip(found, pair.completion_token_ids, strict=True)]


def cells(found: dict[str, Any]) -> list[str]:
    """A line of the table."""

    def cell(step: str) -> str:
        value = found.get(step)
        if value is None:
            return ""
        if isinstance(value, str):
            return "no *"
        if step == "again":
            worst, reused, twice = value
            return f"{worst:.0e}  {reused:.0%}  {twice}"
        return f"{value:.0%}" if step == "greedy" else f"{value:.0e}"

    return [found["name"], SMALL_MODELS[found["name"]].special, *map(cell, STEPS)]


def write(records: Sequence[dict[str, Any]]) -> None:
    """The table, and what went wrong."""
    result = ResultFile("architectures", width=150)
    result.print(
        "largest difference of a token's log-probability to transformers'; vllm: to vLLM's own"
        " route; again: the same pairs, the share of tokens from the cache, pairs computed twice;"
        " greedy: generated tokens that are the likeliest"
    )
    columns = ["architecture", "with", *STEPS]
    result.table("tiny random models on the engine", columns, [cells(each) for each in records])
    for each in records:
        for step in ("made", "started", *STEPS):
            if isinstance(problem := each.get(step), str):
                result.print(f"* {each['name']}, {step}: {problem[:400]}")
    if len(records) == len(SMALL_MODELS):
        result.save({each["name"]: each for each in records})


def code_digest() -> str:
    """Of the engine and of the models, as one was measured with."""
    root, digest = Path(__file__).parent.parent, hashlib.sha256()
    for file in (*sorted((root / "engine").rglob("*.py")), Path(small_models.__file__)):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", default=",".join(SMALL_MODELS), help="names, between commas")
    parser.add_argument("--journal", type=Path, default=JOURNAL)
    chosen = parser.parse_args()
    key = f"{this_machine().packages}, {code_digest()}"
    done = {each["name"] for each in read_lines(chosen.journal, key)}
    for name in chosen.only.split(","):
        if name in done:
            continue
        began, root = time.monotonic(), Path(tempfile.mkdtemp(prefix="jostle-architecture-"))
        try:
            found = Trial(name, root).run()
        finally:
            shutil.rmtree(root)
        append_line(chosen.journal, {"key": key, **found, "seconds": time.monotonic() - began})
        print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)
    known = {each["name"]: each for each in read_lines(chosen.journal)}
    write([known[name] for name in SMALL_MODELS if name in known])


if __name__ == "__main__":
    main()
