"""Clients of a scoring server, blocking and for asyncio; and of any chat server."""

from engine.client.async_client import AsyncEngineClient as AsyncEngineClient
from engine.client.engine_client import EngineClient as EngineClient
