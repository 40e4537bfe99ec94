"""Responses that go on in the background stay inside the gate."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from engine.server.http.middleware import GateMiddleware
from engine.server.reload.gate import Gate, GateTimeoutError


def test_a_load_waits_for_what_was_answered_before_it_had_ended() -> None:
    async def run() -> list[str]:
        events: list[str] = []
        gate, tasks = Gate(), dict[str, asyncio.Task[None]]()
        live = SimpleNamespace(gate=gate, fit=True, usable=True)
        state = SimpleNamespace(
            jostle_weights=live, openai_serving_responses=SimpleNamespace(background_tasks=tasks)
        )
        done = asyncio.Event()

        async def generate() -> None:
            await done.wait()
            events.append("generated")

        async def app(scope: Any, receive: Any, send: Any) -> None:
            tasks["one"] = asyncio.create_task(generate())
            events.append("answered")

        nothing: Any = None

        scope: Any = {
            "type": "http",
            "method": "POST",
            "path": "/v1/responses",
            "app": SimpleNamespace(state=state),
        }
        asking = asyncio.create_task(GateMiddleware(app)(scope, nothing, nothing))
        await asyncio.sleep(0.01)
        try:
            async with gate.alone(), gate.writing(0.02):
                events.append("loaded too early")
        except GateTimeoutError:
            done.set()
        async with gate.alone(), gate.writing(1.0):
            events.append("loaded")
        await asking
        return events

    assert asyncio.run(run()) == ["answered", "generated", "loaded"]
