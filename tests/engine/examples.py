"""Tasks for the tests of the engine room."""

from __future__ import annotations

from engine.tasks import Example, Instance, Task

PLACES = ("sky", "grass", "blood", "sea", "night", "snow")


def make_task(
    task_id: str = "colors",
    *,
    definition: str = "Say the color of the thing",
    n_instances: int = 3,
    n_positive: int = 2,
    n_negative: int = 1,
) -> Task:
    return Task(
        id=task_id,
        definition=definition,
        positive_examples=tuple(
            Example(input=f"alpha bravo {n} charlie delta", output="green", explanation="so it is")
            for n in range(n_positive)
        ),
        negative_examples=tuple(
            Example(input=f"echo foxtrot {n} golf hotel", output="red", explanation="it is not")
            for n in range(n_negative)
        ),
        instances=tuple(
            Instance(id=f"i{n}", input=f"{PLACES[n % 6]} {n}", outputs=("blue",))
            for n in range(n_instances)
        ),
    )
