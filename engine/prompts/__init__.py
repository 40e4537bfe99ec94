"""From task and instance to token ids: layouts, chat templates, and what fits the context."""

from __future__ import annotations

from engine.prompts.builder import EncodedPrompt, PromptBuilder
from engine.prompts.layouts import super_natural_instructions

__all__ = ["EncodedPrompt", "PromptBuilder", "super_natural_instructions"]
