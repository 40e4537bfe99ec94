"""A process that speaks the engine's routes over HTTP; answers depend on weights and input alone.

python -m tests.training.stand_in_engine PORT [MODEL]
"""

from __future__ import annotations

import json
import sys
import time
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from engine.protocol.api import PromptUncertaintyRequest, StreamTotals, Usage
from engine.protocol.served_model import template_identity, tokenizer_identity
from engine.weights.identity import weights_identity
from engine.weights.manifest import check_files, read_manifest
from tests.engine.weights.served import SERVED
from tests.training.fakes import make_score
from tests.training.tiny import make_tokenizer

SECONDS = 0.04
WORDS = ("blue", "green", "red", "cba")
served = SERVED.model_copy(
    update={
        "tokenizer": tokenizer_identity(make_tokenizer()),
        "chat_template": template_identity(make_tokenizer()),
        "max_model_len": 256,
        "weights": weights_identity(Path(sys.argv[2])) if sys.argv[2:] else SERVED.weights,
    }
)
live: dict[str, Any] = {
    "version": served.version,
    "path": "base",
    "served": served.model_dump(),
}


def share(*parts: object) -> float:
    return zlib.crc32("/".join(map(str, parts)).encode()) / 2**32


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass

    def answer(self, value: Any) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        if self.path == "/v1/models":
            self.answer({"data": [{"id": "stand-in"}]})
        else:
            self.answer(live)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/v1/prompt_uncertainty":
            self.score(PromptUncertaintyRequest.model_validate_json(body))
        elif self.path == "/v1/weights":
            folder = Path(json.loads(body)["path"])
            manifest = read_manifest(folder)
            check_files(folder, manifest)
            time.sleep(SECONDS)
            live.update(version=manifest.version, path=str(folder))
            self.answer(live)
        else:
            prompts = json.loads(body)["prompt"]
            time.sleep(SECONDS)
            picked = [int(4 * share(live["version"], prompt)) for prompt in prompts]
            choices = [{"index": i, "text": WORDS[each]} for i, each in enumerate(picked)]
            self.answer({"choices": choices})

    def score(self, request: PromptUncertaintyRequest) -> None:
        self.send_response(200)
        self.end_headers()
        version = live["version"]
        for task in request.tasks:
            time.sleep(SECONDS)
            score = make_score(task.id, share(version, task.id), version=version)
            self.wfile.write(score.model_dump_json().encode() + b"\n")
        totals = StreamTotals(tasks=len(request.tasks), weights_version=version, usage=Usage())
        self.wfile.write(totals.model_dump_json().encode() + b"\n")


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
