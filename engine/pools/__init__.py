"""Where tasks come from: one loader for every format, and the pool that ships with the package."""

from __future__ import annotations

from engine.pools.lazy import LazyPool
from engine.pools.opening import load_pool, open_pool
from engine.pools.options import Columns, PoolOptions

__all__ = ["Columns", "LazyPool", "PoolOptions", "load_pool", "open_pool"]
