"""Callbacks for the trainers of transformers and TRL."""

from training.callback.hot_reload import HotReload

__all__ = ["HotReload"]
