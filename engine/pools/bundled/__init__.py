"""The pool that ships with the package: small tasks, written for this project, quick on a CPU.

Each topic module holds one or more books of tasks. Those listed under held-out share no category
with the training pool, so that gains on them are gains on kinds of task never trained on.
"""

from __future__ import annotations

from functools import cache

from engine.pools.bundled import (
    arithmetic,
    counting,
    dates,
    formats,
    held_out_language,
    held_out_symbols,
    knowledge,
    lists,
    opinions,
    passages,
    puzzles,
    rules,
    text,
    words,
)
from engine.pools.bundled.book import Book
from engine.tasks import Pool

__all__ = ["held_out_pool", "training_pool"]

_TRAINING: tuple[Book, ...] = (
    text.STRING_EDITING,
    counting.COUNTING,
    arithmetic.ARITHMETIC,
    dates.DATES_AND_TIMES,
    lists.LIST_PROCESSING,
    words.WORD_FORMS,
    words.WORD_MEANING,
    rules.RULE_CLASSIFICATION,
    opinions.SENTIMENT,
    opinions.TEXT_CLASSIFICATION,
    passages.EXTRACTION,
    formats.FORMAT_CONVERSION,
    puzzles.SMALL_REASONING,
    knowledge.COMMON_KNOWLEDGE,
)
_HELD_OUT: tuple[Book, ...] = (
    held_out_symbols.CIPHERS,
    held_out_symbols.GEOMETRY,
    held_out_symbols.MEASUREMENT,
    held_out_symbols.LOGIC,
    held_out_symbols.PROGRAM_TRACING,
    held_out_language.GRAMMAR,
    held_out_language.SENTENCE_REWRITING,
    held_out_language.COREFERENCE,
    held_out_language.TRANSLATION,
    held_out_language.INTENT_DETECTION,
    held_out_language.CAUSAL_CHOICE,
)


@cache
def training_pool() -> Pool:
    """The 56 tasks to score, select from and train on; the same in every process."""
    return Pool([task for book in _TRAINING for task in book.build()], "bundled training pool")


@cache
def held_out_pool() -> Pool:
    """The 16 tasks to evaluate on, of categories that no training task has."""
    return Pool([task for book in _HELD_OUT for task in book.build()], "bundled held-out pool")
