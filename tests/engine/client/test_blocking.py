"""The blocking client is the other one run at once: no loop, no thread, and it can be stopped."""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from engine.client import EngineClient
from engine.client.blocking import run_now
from tests.engine.client.canned_server import CONFIG, Server, score_ids, score_line, well_behaved
from tests.engine.examples import make_task

TASKS = [make_task(name) for name in "abc"]


class OneScore:
    """A server that sends one score, then nothing, and sees the connection end."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self.closed = threading.Event()
        self.sent = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        connection, _ = self._listening.accept()
        with connection:
            connection.recv(1 << 20)
            line = score_line("a")
            connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            connection.sendall(b"%x\r\n%s\r\n" % (len(line), line))
            self.sent.set()
            while connection.recv(1 << 20):
                pass
        self.closed.set()

    def close(self) -> None:
        self._thread.join(10)
        self._listening.close()


@pytest.fixture
def one_score() -> Iterator[OneScore]:
    running = OneScore()
    yield running
    running.close()


def test_a_generator_that_is_closed_early_ends_the_request(one_score: OneScore) -> None:
    with EngineClient(one_score.url) as client:
        scores = client.score(TASKS, CONFIG)
        assert next(scores).task_id == "a"
        assert not one_score.closed.is_set()
        del scores
        assert one_score.closed.wait(10)


def test_an_interrupt_ends_the_request(one_score: OneScore) -> None:
    main = threading.main_thread().ident
    assert main is not None
    before = threading.active_count()

    def interrupt() -> None:
        one_score.sent.wait(10)
        signal.pthread_kill(main, signal.SIGINT)

    with EngineClient(one_score.url) as client:
        threading.Timer(0.2, interrupt).start()
        scores = client.score(TASKS, CONFIG)
        assert next(scores).task_id == "a"
        with pytest.raises(KeyboardInterrupt):
            next(scores)
        assert one_score.closed.wait(10)
    assert threading.active_count() <= before


def test_it_works_where_a_loop_runs_and_outlives_it(server: Server, client: EngineClient) -> None:
    server.answer = well_behaved
    scores = client.score(TASKS, CONFIG)

    async def cell() -> str:
        return next(scores).task_id

    assert asyncio.run(cell()) == "a"
    assert [score.task_id for score in scores] == ["b", "c"]


def test_threads_share_a_client(server: Server, client: EngineClient) -> None:
    server.answer = well_behaved
    with ThreadPoolExecutor(8) as pool:
        answers = pool.map(lambda n: score_ids(client, f"{n}", f"{n}b"), range(40))
        assert list(answers) == [[f"{n}", f"{n}b"] for n in range(40)]


def test_what_waits_is_a_fault_of_ours() -> None:
    with pytest.raises(AssertionError, match="must never wait"):
        run_now(asyncio.sleep(0))
