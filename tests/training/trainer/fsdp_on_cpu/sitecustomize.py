"""FSDP on gloo: torch has it, but accelerate shards models on accelerators only.

Python imports this by itself where the folder is on its path.
"""

from __future__ import annotations

import os
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any


class StateFinder(MetaPathFinder):
    """Extends `accelerate.state` when it is imported."""

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:
        if fullname != "accelerate.state":
            return None
        sys.meta_path.remove(self)
        spec = find_spec(fullname)
        assert spec is not None
        loader: Any = spec.loader
        stock = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            stock(module)
            shard_on_cpu(module)

        loader.exec_module = exec_module
        return spec


def shard_on_cpu(state: Any) -> None:
    """Several processes on a CPU are what several on GPUs are."""
    stock = state.AcceleratorState.__init__

    def init(self: Any, *args: Any, **options: Any) -> None:
        stock(self, *args, **options)
        plugin = options.get("fsdp_plugin")
        if plugin and self.distributed_type == state.DistributedType.MULTI_CPU:
            self.distributed_type, self.fsdp_plugin = state.DistributedType.FSDP, plugin
            state.PartialState._shared_state["distributed_type"] = self.distributed_type
            print(f"sharded over {self.num_processes} processes on the CPU", flush=True)

    state.AcceleratorState.__init__ = init


if os.environ.get("ACCELERATE_USE_FSDP") == "true":
    sys.meta_path.insert(0, StateFinder())
