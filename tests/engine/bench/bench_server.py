"""An HTTP server with all routes that a bench asks, in which every pair takes the same time."""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from engine.protocol.api import PromptUncertaintyRequest, Usage
from engine.protocol.served_model import ServedModel, template_identity, tokenizer_identity
from tests.engine.http_serving import serving
from tests.engine.small_tokenizers import gpt2
from tests.engine.weights.served import SERVED, live
from tests.training.http_engine import fake_score

SLOTS = 4


class BenchServer:
    """What the server does, and what it was asked.

    Attributes:
        url: Where it listens.
        served: What it says that it serves.
        version: The live weights; `path` is where they lie.
        pair_s: Seconds of a pair; `SLOTS` of them are scored at once.
        stock_s: Seconds of a pair by vLLM's own route.
        fails: Whether it answers 503.
        salts: Those of all requests, in order.
        loads: The versions that were loaded.
        asked: Requests by route.
    """

    def __init__(self, served: ServedModel) -> None:
        self.url = ""
        self.served = served
        self.version, self.path = "base-0", served.model
        self.pair_s, self.stock_s = 0.002, 0.006
        self.fails = False
        self.salts: list[str] = []
        self.loads: list[str] = []
        self.asked: list[str] = []
        self.seconds = {"queue": 0.0, "prefill": 0.0, "decode": 0.0}
        self.slots = threading.Semaphore(SLOTS)

    def weights(self) -> dict[str, Any]:
        state = live(self.version, self.path).model_copy(update={"served": self.served})
        return json.loads(state.model_dump_json())  # type: ignore[no-any-return]

    def work(self, n_pairs: int, seconds: float) -> None:
        for _ in range(n_pairs):
            with self.slots:
                time.sleep(seconds)
            self.seconds["prefill"] += seconds

    def usage(self, n_pairs: int, **more: int) -> dict[str, Any]:
        usage = Usage(pairs=n_pairs, tokens_submitted=100 * n_pairs, tokens_reused=60 * n_pairs)
        return usage.model_copy(update=more).model_dump()


def served_model(folder: Path) -> ServedModel:
    """A model with GPT-2's kind of tokenizer, whose files are put into a folder."""
    tokenizer = gpt2()
    tokenizer.save_pretrained(folder)
    (folder / "config.json").write_text('{"model_type": "llama"}')
    return SERVED.model_copy(
        update={
            "model": str(folder),
            "tokenizer_model": str(folder),
            "tokenizer": tokenizer_identity(tokenizer),
            "chat_template": template_identity(tokenizer),
        }
    )


class _Handler(BaseHTTPRequestHandler):
    state: BenchServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/metrics":
            lines = [
                f'vllm:request_{part}_time_seconds_sum{{engine="0"}} {value}\n'
                for part, value in self.state.seconds.items()
            ]
            self._answer("".join(lines).encode())
        elif self.path == "/v1/models":
            self._tell({"data": [{"id": "a-model"}]})
        else:
            self._tell(self.state.weights())

    def do_POST(self) -> None:
        state = self.state
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        state.asked.append(self.path)
        if state.fails:
            self._tell({"error": {"message": "busy", "code": 503}}, 503)
            return
        if salt := body.get("cache_salt"):
            state.salts.append(salt)
            assert len(salt) <= 128  # as vLLM's routes have it
            assert set(salt).isdisjoint("@/\\\0")
        if self.path == "/v1/weights":
            time.sleep(0.02)
            state.version, state.path = body["version"], body["path"]
            state.loads.append(body["version"])
            self._tell(state.weights())
        elif self.path == "/v1/completions":
            self._stock(body)
        elif self.path == "/v1/completion_logprobs":
            self._pairs(body)
        else:
            self._tasks(body)

    def _stock(self, body: dict[str, Any]) -> None:
        self.state.work(len(body["prompt"]), self.state.stock_s)
        choices = [
            {
                "index": index,
                "prompt_logprobs": [{str(token): {"logprob": -0.5}} for token in prompt],
            }
            for index, prompt in enumerate(body["prompt"])
        ]
        self._tell({"choices": choices})

    def _pairs(self, body: dict[str, Any]) -> None:
        state, n = self.state, len(body["pairs"])
        state.work(n, state.pair_s)
        results = [
            {
                "index": index,
                "weights_version": state.version,
                "logprob": -0.5 * len(pair["completion_token_ids"]),
                "mean_logprob": math.log(math.exp(-0.5) + 1e-6),
                "n_tokens": len(pair["completion_token_ids"]),
                "n_prompt_tokens": len(pair["prompt_token_ids"]),
            }
            for index, pair in enumerate(body["pairs"])
        ]
        totals = {"weights_version": state.version, "usage": state.usage(n)}
        if body.get("stream"):
            self._lines([*results, {"done": True, "pairs": n, **totals}])
        else:
            self._tell({"results": results, **totals})

    def _tasks(self, body: dict[str, Any]) -> None:
        state, asked = self.state, PromptUncertaintyRequest.model_validate(body)
        scores = [fake_score(task, asked.config, state.version) for task in asked.tasks]
        n = sum(score.usage.pairs for score in scores)
        m = asked.config.sampling.n_samples if asked.config.measure != "prompt_uncertainty" else 0
        state.work(n, state.pair_s)
        usage = state.usage(n, tokens_generated=n, samples=m * n, tokens_sampled=2 * m * n)
        totals = {"tasks": len(scores), "weights_version": state.version, "usage": usage}
        lines = [json.loads(score.model_dump_json()) for score in scores]
        self._lines([*lines, {"done": True, **totals}])

    def _lines(self, lines: list[Any]) -> None:
        self._answer("".join(json.dumps(line) + "\n" for line in lines).encode())

    def _tell(self, value: Any, status: int = 200) -> None:
        self._answer(json.dumps(value).encode(), status)

    def _answer(self, content: bytes, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@contextmanager
def bench_server(served: ServedModel) -> Iterator[BenchServer]:
    """A running server."""
    state = BenchServer(served)
    with serving(type("Handler", (_Handler,), {"state": state})) as state.url:
        yield state
