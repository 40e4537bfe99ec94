"""Tasks made up: as long as is asked for, with nothing in common but common words."""

from __future__ import annotations

import random
from collections.abc import Sequence

from engine.bench.workload import Shape
from engine.errors import InputError
from engine.prompts import PromptBuilder
from engine.tasks import Example, Instance, Task

_LIST = (
    "the a one some each red blue green small large old new first last good plain house river city "
    "road tree letter number word name line page part side end day night year hour person child "
    "friend teacher doctor farmer says gives takes makes finds keeps writes reads counts moves "
    "opens and or but with from into over under before after"
)
WORDS = tuple(_LIST.split())
"""Each is a token of most vocabularies."""

_PART = 8  # of a prompt that an input takes, and as much the input of each example
_TRIES = 12


def synthetic_tasks(
    n_tasks: int, n_instances: int, shape: Shape, seed: int, builder: PromptBuilder
) -> list[Task]:
    """Tasks whose first prompt has about the asked length, the others nearly so.

    Raises:
        InputError: If the layout alone takes more, or the context less.
    """
    longest = builder.max_model_len - shape.output_tokens
    if shape.prompt_tokens >= longest:
        problem = f"the context leaves room for {longest - 1} tokens"
        raise InputError(problem, field="--prompt-tokens")
    per_word = len(builder.encode([" ".join(WORDS)])[0]) / len(WORDS)
    draws = [random.Random(f"bench/{seed}/{number}") for number in range(n_tasks)]
    return [
        _task(draw, f"synthetic-{number}", n_instances, shape, builder, per_word)
        for number, draw in enumerate(draws)
    ]


def _task(
    draw: random.Random,
    task_id: str,
    n_instances: int,
    shape: Shape,
    builder: PromptBuilder,
    per_word: float,
) -> Task:
    part = round(shape.prompt_tokens / _PART / per_word)
    output = _output(draw, shape.output_tokens, builder)
    short = " ".join(output.split()[:part])
    examples = [Example(input=_text(draw, part), output=short) for _ in range(2)]
    instances = [
        Instance(id=str(index), input=_text(draw, part), outputs=(output,))
        for index in range(n_instances)
    ]
    words = _text(draw, 2 * shape.prompt_tokens).split()
    n_words = part
    for _ in range(_TRIES):
        task = Task(
            id=task_id,
            definition=" ".join(words[:n_words]).capitalize() + ".",
            positive_examples=tuple(examples),
            instances=tuple(instances),
        )
        prompt = builder.prompt(task, task.instances[0], shape.output_tokens)
        missing = round((shape.prompt_tokens - len(prompt.token_ids)) / per_word)
        if not missing or (n_words == 1 and missing < 0):
            break
        n_words = max(1, n_words + missing)
    if missing < 0 and n_words == 1:
        least = len(prompt.token_ids)
        raise InputError(f"the layout takes {least} tokens at least", field="--prompt-tokens")
    return task


def _text(draw: random.Random, n_words: int) -> str:
    return " ".join(draw.choice(WORDS) for _ in range(max(1, n_words)))


def _output(draw: random.Random, n_tokens: int, builder: PromptBuilder) -> str:
    """A text of so many tokens, the one that ends an answer included, or of a few less."""
    words: Sequence[str] = _text(draw, n_tokens).split()
    n_words = len(words)
    while n_words > 1 and len(builder.completion(" ".join(words[:n_words]))) > n_tokens:
        n_words -= 1
    return " ".join(words[:n_words])
