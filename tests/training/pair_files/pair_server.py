"""An HTTP server with the route for pairs; its numbers depend on the texts alone.

python -m tests.training.pair_files.pair_server      prints its address
"""

from __future__ import annotations

import json
import threading
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any

from engine.protocol.served_model import ServedModel
from tests.engine.http_serving import serving
from tests.engine.weights.served import live

FAULTY = "FAULTY"
NAN = "NAN"
LONG = "LONG"


class PairServer:
    """What the server does, and what it was asked.

    Attributes:
        url: Where it listens.
        version: The live weights.
        served: What it says that it serves; None: the usual.
        asked: How often each pair was answered, by its text.
        pause_s: Before each answer.
        stalls_after: Give so many answers, and keep all further ones waiting.
        dies_after: Answer so many pairs, and then no more.
        tells_greedy: Whether it tells what is likeliest.
        counts: Whether it keeps what it was asked.
        bodies: The requests.
    """

    def __init__(self) -> None:
        self.url = ""
        self.version = "v1"
        self.served: ServedModel | None = None
        self.asked: Counter[str] = Counter()
        self.pause_s = 0.0
        self.stalls_after: int | None = None
        self.dies_after: int | None = None
        self.tells_greedy = True
        self.counts = True
        self.bodies: list[dict[str, Any]] = []

    def weights(self) -> str:
        state = live(self.version)
        if self.served is not None:
            state = state.model_copy(update={"served": self.served})
        return state.model_dump_json()


def result(index: int, text: str, completion: str, body: dict[str, Any], version: str) -> Any:
    n_tokens = len(completion.split())
    logprob = -(zlib.crc32(text.encode()) % 10_000) / 1_000 - 0.001
    values = {
        "index": index,
        "weights_version": version,
        "logprob": logprob,
        "mean_logprob": logprob / n_tokens,
        "n_tokens": n_tokens,
        "n_prompt_tokens": 7,
        "is_greedy": bool(zlib.crc32(text.encode()) % 2),
    }
    if body["tokens"]:
        values["token_ids"] = [5] * n_tokens
        values["token_texts"] = completion.split()
        values["token_logprobs"] = [logprob / n_tokens] * n_tokens
        values["token_is_greedy"] = [True] * n_tokens
    return values


def parts(pair: dict[str, Any]) -> tuple[str, str]:
    """Text of the whole pair, and its completion."""
    if "prompt_token_ids" in pair:
        completion = " ".join(map(str, pair["completion_token_ids"]))
        return f"{' '.join(map(str, pair['prompt_token_ids']))}|{completion}", completion
    if "prompt" in pair:
        return f"{pair['prompt']}|{pair['completion']}", pair["completion"]
    messages = [*pair["messages"]]
    completion = pair.get("completion") or messages.pop()["content"]
    return f"{json.dumps(messages)}|{completion}", completion


@contextmanager
def pair_server() -> Iterator[PairServer]:
    """A running server."""
    state = PairServer()
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._start(200)
            models = json.dumps({"data": [{"id": "a-model"}]})
            answer = models if self.path == "/v1/models" else state.weights()
            self.wfile.write(answer.encode())

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.path == "/v1/completions":
                self._complete(body)
                return
            if state.counts:
                state.bodies.append(body)
            fault = None if body["on_fault"] == "skip" else self._fault(body)
            if fault is not None:
                self._start(fault["error"]["code"])
                self.wfile.write(json.dumps(fault).encode())
                return
            self._start(200)
            for index, pair in enumerate(body["pairs"]):
                line = self._line(index, pair, body)
                if line is None:
                    return
                self.wfile.write(json.dumps(line).encode() + b"\n")
            n_skipped = sum(self._reason(pair) is not None for pair in body["pairs"])
            names = ("boundary", "add_special_tokens", "parse_special", "add_eos_token")
            totals = {
                "done": True,
                "pairs": len(body["pairs"]) - n_skipped,
                "skipped": n_skipped,
                "weights_version": state.version,
                "encoding": {name: body[name] for name in names},
                "usage": {},
            }
            self.wfile.write(json.dumps(totals).encode() + b"\n")

        def _line(self, index: int, pair: dict[str, Any], body: dict[str, Any]) -> Any:
            if state.pause_s:
                time.sleep(state.pause_s)
            while state.stalls_after is not None and state.asked.total() >= state.stalls_after:
                time.sleep(0.01)
            if state.dies_after is not None:
                with lock:
                    state.dies_after -= 1
                if state.dies_after < 0:
                    return None
            reason = self._reason(pair)
            if reason is not None:
                problem, field = reason
                record = f"record pairs[{index}], field {field!r}: {problem}"
                return {"index": index, "reason": record, "field": field}
            text, completion = parts(pair)
            if state.counts:
                with lock:
                    state.asked[text] += 1
            line = result(index, text, completion, body, state.version)
            return line if state.tells_greedy else line | {"is_greedy": None}

        def _reason(self, pair: dict[str, Any]) -> tuple[str, str] | None:
            text, _ = parts(pair)
            if FAULTY in text:
                return "its tokens merge with the prompt's", "completion"
            if LONG in text:
                return "the pair has 4,000 tokens, the model's context holds 2,047", "prompt"
            return None

        def _fault(self, body: dict[str, Any]) -> Any:
            for index, pair in enumerate(body["pairs"]):
                name = f"pairs[{index}]"
                if NAN in parts(pair)[0]:
                    message = f"pair {name}: the engine gave nan as log-probability of token 0"
                    return {"error": {"message": message, "code": 500}}
                if (reason := self._reason(pair)) is not None:
                    problem, field = reason
                    message = f"record {name}, field {field!r}: {problem}"
                    error = {"message": message, "param": field, "record": name, "code": 400}
                    return {"error": error}
            return None

        def _complete(self, body: dict[str, Any]) -> None:
            state.bodies.append(body)
            self._start(200)
            texts = [f"out {len(prompt)}\n\nrest" for prompt in body["prompt"]]
            choices = [{"index": index, "text": text} for index, text in enumerate(texts)]
            self.wfile.write(json.dumps({"choices": choices}).encode())

        def _start(self, status: int) -> None:
            self.send_response(status)
            self.end_headers()

    with serving(Handler) as state.url:
        yield state


if __name__ == "__main__":
    with pair_server() as running:
        running.counts = False
        print(running.url, flush=True)
        threading.Event().wait()
