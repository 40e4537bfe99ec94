"""Scores many tasks against a fake engine over HTTP and prints the peak memory of either process.

    python -m tests.engine.scale_client N_TASKS

The engine answers from memory (`tests.engine.questions.fake_backend`); plan and wire are real.
"""

from __future__ import annotations

import multiprocessing
import resource
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

from engine.client import EngineClient
from engine.prompts.prompt_config import PromptConfig
from engine.protocol.api import PromptUncertaintyRequest, StreamTotals, TaskScore, Usage
from engine.protocol.score_config import ScoreConfig
from engine.questions.scorer import TaskScorer
from engine.tasks import Example, Instance, Task

CONFIG = ScoreConfig(
    n_instances=2,
    n_perturbations=2,
    max_output_tokens=8,
    prompt=PromptConfig(n_positive_examples=1),
)


def peak_megabytes() -> float:
    """Largest resident set of this process so far, in MB (10^6 bytes)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def short_tasks(n_tasks: int) -> Iterator[Task]:
    """Synthetic tasks, made as they are asked for."""
    for index in range(n_tasks):
        yield Task(
            id=f"task-{index}",
            definition=f"Add {index} to the number you are given and say the sum, nothing else.",
            positive_examples=(Example(input="1", output=str(index + 1)),),
            instances=tuple(
                Instance(id=str(number), input=str(number), outputs=(str(index + number),))
                for number in range(4)
            ),
        )


def serve(listener: socket.socket) -> None:
    """A scoring server whose engine is fake."""
    import uvicorn
    from fastapi import FastAPI, Response
    from fastapi.responses import StreamingResponse

    from tests.engine.questions.fake_backend import FakeBackend

    app = FastAPI()

    async def lines(body: PromptUncertaintyRequest) -> AsyncIterator[str]:
        scorer = TaskScorer(FakeBackend(max_in_flight=128), body.config, "fake")
        usage, tasks = Usage(), 0
        async for score in scorer.score(body.tasks):
            assert isinstance(score, TaskScore)
            usage, tasks = usage + score.usage, tasks + 1
            yield score.model_dump_json() + "\n"
        totals = StreamTotals(tasks=tasks, weights_version="fake", usage=usage)
        yield totals.model_dump_json() + "\n"

    @app.post("/v1/prompt_uncertainty")
    async def prompt_uncertainty(body: PromptUncertaintyRequest) -> Response:
        return StreamingResponse(lines(body), media_type="application/x-ndjson")

    @app.get("/memory")
    async def memory() -> Any:
        return {"megabytes": peak_megabytes()}

    config = uvicorn.Config(app, log_level="warning")
    uvicorn.Server(config).run(sockets=[listener])


def main(n_tasks: int) -> None:
    """Prints the tasks scored, then the peak memory of client and server in MB."""
    import httpx

    listener = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    server = multiprocessing.get_context("fork").Process(target=serve, args=[listener], daemon=True)
    server.start()
    scored = 0
    with EngineClient(url) as client:
        for score in client.score(short_tasks(n_tasks), CONFIG):
            assert score.task_id == f"task-{scored}"
            scored += 1
    behind = httpx.get(f"{url}/memory", trust_env=False, timeout=30).json()["megabytes"]
    server.terminate()
    print(f"{scored} {peak_megabytes():.0f} {behind:.0f}")


if __name__ == "__main__":
    main(int(sys.argv[1]))
