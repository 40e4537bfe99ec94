"""`Scorer`: what it asks, what it answers, and that nothing is left of its engine."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine import Scorer
from engine.errors import EngineError, InputError
from engine.protocol.completions import SkippedPair, TokenPair
from tests.engine.client.canned_server import Answer, Request, Server, make_score, totals_line
from tests.engine.client.test_pair_stream import totals_line as pair_totals
from tests.engine.examples import make_task
from tests.engine.process.test_engine_process import alive, replace_python, wait_until_gone

PAIRS = [("The capital of France is", " Paris"), ("One, two,", " three")]

# In the place of vLLM: it says who and where it is, and every completion is as likely as any other.
ENGINE = """
import http.server, json
child = os.fork()
if not child:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(3600)
    os._exit(0)
log = os.readlink("/proc/self/fd/1")
pathlib.Path(os.environ["TOLD"]).write_text(json.dumps(
    {"pids": [os.getpid(), child], "log": log, "arguments": sys.argv[1:]}
))
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def answer(self, body):
        self.send_response(200)
        self.send_header("X-Jostle-Server", os.environ["JOSTLE_SERVER"])
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_GET(self):
        self.answer(b"{}")
    def do_POST(self):
        pairs = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["pairs"]
        lines = [
            {"index": i, "weights_version": "v", "logprob": -1.0, "mean_logprob": -1.0,
             "n_tokens": 1, "n_prompt_tokens": 1, "is_greedy": True}
            for i, _ in enumerate(pairs)
        ]
        lines += [{"done": True, "pairs": len(pairs), "weights_version": "v", "usage": {}}]
        self.answer("".join(json.dumps(line) + "\\n" for line in lines).encode())
    def log_message(self, *_):
        pass
port = int(next(a for a in sys.argv if a.startswith("--port=")).split("=")[1])
http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A model folder on which `ENGINE` is started; temporary files go below `tmp_path`."""
    replace_python(monkeypatch, tmp_path, ENGINE)
    monkeypatch.setenv("TOLD", str(tmp_path / "told.json"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    folder = tmp_path / "tiny-model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    return str(folder)


def told(tmp_path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((tmp_path / "told.json").read_text())
    return found


def nothing_left(tmp_path: Path) -> bool:
    wait_until_gone(*told(tmp_path)["pids"])
    return not list((tmp_path / "temporary").iterdir())


def echo(request: Request) -> Answer:
    """Each pair is as likely as its place says; the last first."""
    lines = [
        {
            "index": index,
            "weights_version": "v1",
            "logprob": -float(index),
            "mean_logprob": -float(index),
            "n_tokens": 1,
            "n_prompt_tokens": 2,
        }
        for index, _ in enumerate(request.body["pairs"])
    ][::-1]
    chunks = [json.dumps(line).encode() + b"\n" for line in lines]
    return Answer(chunks=[*chunks, pair_totals(len(lines))])


def test_pairs_of_every_form(server: Server) -> None:
    server.answer = echo
    asked = [{"role": "user", "content": "Capital?"}]
    ids = TokenPair(prompt_token_ids=(1,), completion_token_ids=(2,))
    text = {"prompt": "a", "completion": " b"}
    with Scorer(url=server.url) as scorer:
        found = scorer.logprobs([*PAIRS, (asked, "Paris"), ids, text], boundary="separate")
    assert [result.index for result in found] == [0, 1, 2, 3, 4]
    body = server.requests[0].body
    assert body["boundary"] == "separate"
    assert body["pairs"] == [
        *({"prompt": prompt, "completion": completion} for prompt, completion in PAIRS),
        {"messages": asked, "completion": "Paris"},
        {"prompt_token_ids": [1], "completion_token_ids": [2]},
        text,
    ]
    table = found.to_polars()
    assert table["logprob"].to_list() == [0, -1, -2, -3, -4]
    assert "token_ids" not in table.columns, "nobody asked for them"


@pytest.mark.parametrize(
    ("pair", "said"),
    [
        (("a", None), "record pairs[1], field 'completion': Input should be a valid string"),
        ((None, "b"), "record pairs[1], field 'messages': Input should be a valid tuple"),
        ("ab", "record pairs[1]: a pair has prompt_token_ids and"),
        ({"prompt": "a"}, "record pairs[1], field 'completion': Field required"),
    ],
)
def test_what_is_no_pair_is_named(server: Server, pair: Any, said: str) -> None:
    with Scorer(url=server.url) as scorer, pytest.raises(InputError) as caught:
        scorer.logprobs([PAIRS[0], pair])
    assert str(caught.value).startswith(said)
    assert server.requests == []


def test_a_field_that_is_none_is_told(server: Server) -> None:
    with (
        Scorer(url=server.url) as scorer,
        pytest.raises(InputError, match=r"valid here: .*boundary"),
    ):
        scorer.logprobs(PAIRS, boundry="joint")


def test_skipped_pairs(server: Server) -> None:
    def second(request: Request) -> Answer:
        skipped = {"index": 1, "reason": "record pairs[1]: x"}
        first = echo(request).chunks[1]
        return Answer(chunks=[json.dumps(skipped).encode() + b"\n", first, pair_totals(1, 1)])

    server.answer = second
    skipped: list[SkippedPair] = []
    with Scorer(url=server.url) as scorer:
        found = scorer.logprobs(PAIRS, on_skip=skipped.append)
    assert [[each.index for each in some] for some in (found, skipped)] == [[0], [1]]


def test_prompt_uncertainty(server: Server) -> None:
    def scores(request: Request) -> Answer:
        ids = [task["id"] for task in request.body["tasks"]][::-1]
        lines = [make_score(name).model_dump_json().encode() + b"\n" for name in ids]
        return Answer(chunks=[*lines, totals_line(len(ids))])

    server.answer = scores
    tasks: list[Any] = [make_task("b"), make_task("a").model_dump()]
    with Scorer(url=server.url) as scorer:
        found = scorer.prompt_uncertainty(tasks, n_perturbations=3)
    assert server.requests[0].body["config"]["n_perturbations"] == 3
    table = found.to_polars()
    assert table["task_id"].to_list() == ["b", "a"]
    assert table["prompt_uncertainty"].to_list() == [0.25, 0.25]
    assert "pairs" not in table.columns


def test_samples_can_be_scored_as_they_were_sampled(server: Server) -> None:
    def vllm(request: Request) -> Answer:
        if request.path == "/v1/models":
            answer: Any = {"data": [{"id": "m"}]}
        elif request.path == "/tokenize":
            answer = {"tokens": [7, 8] if "messages" in request.body else [9]}
        else:
            answer = {
                "choices": [
                    {"index": i, "text": f"t{i}", "finish_reason": "stop", "token_ids": [i, 2]}
                    for i in (3, 1, 0, 2)
                ]
            }
        return Answer(chunks=[json.dumps(answer).encode()])

    server.answer = vllm
    with Scorer(url=server.url) as scorer:
        found = scorer.samples(["a", [{"role": "user", "content": "b"}]], 2, temperature=0.5)
    assert [(each.index, each.number, each.text) for each in found] == [
        (0, 0, "t0"),
        (0, 1, "t1"),
        (1, 0, "t2"),
        (1, 1, "t3"),
    ]
    assert found[3].pair == TokenPair(prompt_token_ids=(7, 8), completion_token_ids=(3, 2))
    body = server.requests[-1].body
    assert (body["n"], body["temperature"], body["prompt"]) == (2, 0.5, [[9], [7, 8]])


def test_it_works_where_a_loop_runs(server: Server) -> None:
    server.answer = echo

    async def cell() -> int:
        with Scorer(url=server.url) as scorer:
            return len(scorer.logprobs(PAIRS))

    assert asyncio.run(cell()) == 2


def test_an_engine_of_ones_own_leaves_nothing_behind(model: str, tmp_path: Path) -> None:
    with Scorer(model, engine_args=["--max-model-len=64"]) as scorer:
        assert [each.is_greedy for each in scorer.logprobs(PAIRS)] == [True, True]
        said = told(tmp_path)
        assert all(map(alive, said["pids"]))
        assert Path(said["log"]).is_relative_to(tmp_path / "temporary")
    assert "--served-model-name=tiny-model" in said["arguments"]
    assert "--max-model-len=64" in said["arguments"]
    assert nothing_left(tmp_path)
    with pytest.raises(EngineError, match="closed"):
        scorer.logprobs(PAIRS)


def test_nor_after_an_exception_or_when_it_is_forgotten(model: str, tmp_path: Path) -> None:
    def cell() -> None:
        with Scorer(model) as scorer:
            scorer.logprobs(PAIRS)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        cell()
    assert nothing_left(tmp_path)
    forgotten: Scorer | None = Scorer(model)
    assert forgotten
    assert len(forgotten.logprobs(PAIRS)) == 2
    forgotten = None
    gc.collect()
    assert nothing_left(tmp_path)


_SCRIPT = """
import sys
from engine import Scorer
scorer = Scorer(sys.argv[1], log_file=None)
python, sys.executable = sys.executable, sys.argv[2]
scorer.logprobs([("a", " b")])
print("scored", flush=True)
{rest}
"""


@pytest.mark.parametrize("rest", ["sys.exit(0)", "import time; time.sleep(3600)"])
def test_nor_at_the_end_of_a_script_or_its_interruption(
    rest: str, model: str, tmp_path: Path
) -> None:
    temporary = str(tmp_path / "temporary")
    program, python = sys.executable, os.path.realpath("/proc/self/exe")
    script = subprocess.Popen(
        [python, "-c", _SCRIPT.format(rest=rest), model, program],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TMPDIR": temporary},
    )
    assert script.stdout is not None
    assert script.stdout.readline() == b"scored\n"
    if "sleep" in rest:
        script.send_signal(signal.SIGINT)
    script.wait()
    assert nothing_left(tmp_path)


def test_an_engine_that_dies_says_why_and_is_not_waited_for(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dies = 'print("RuntimeError: no memory left", flush=True)\n        os._exit(3)'
    code = ENGINE.replace("pairs = json.loads(", f"{dies}\n        pairs = json.loads(")
    replace_python(monkeypatch, tmp_path, code)
    monkeypatch.setattr("engine.session.scoring_session.UNSUPERVISED_PATIENCE_S", 0.1)
    for log in (None, tmp_path / "kept.log"):
        where = f" (log: {log})" if log else ""
        with Scorer(model, log_file=log) as scorer, pytest.raises(EngineError) as caught:
            scorer.logprobs(PAIRS)
        said = f"; the engine ended with code 3: RuntimeError: no memory left{where}"
        assert str(caught.value).endswith(said)


def test_an_engine_that_does_not_start_says_why(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace_python(monkeypatch, tmp_path, "raise SystemExit('RuntimeError: no memory left')")
    with pytest.raises(EngineError) as caught, Scorer(model):
        pass
    assert str(caught.value).endswith("while starting: RuntimeError: no memory left")
    assert not list((tmp_path / "temporary").iterdir())


def test_a_model_or_a_url() -> None:
    given: Any
    for given in ({}, {"model": "m", "url": "http://x"}, {"url": "http://x", "engine_args": ["-"]}):
        with pytest.raises(InputError):
            Scorer(**given)


def test_the_import_is_light() -> None:
    probe = "import sys; from engine import Scorer; print(*sorted(sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"torch", "vllm", "transformers", "polars", "numpy"} & {*loaded}
