"""A strategy: tasks on which the model wavers and of which it is unsure as well."""

from __future__ import annotations

from typing import ClassVar, Literal

from training.selection.strategy import Choice, Draw, Strategy, numbers


class Unsure(Strategy):
    """The highest U (1 - P) first: prompt uncertainty times what is left of the probability."""

    summary: ClassVar[str] = "highest prompt uncertainty times (1 - prediction probability) first"
    name: Literal["unsure"] = "unsure"

    def choose(self, draw: Draw) -> list[Choice]:
        """The first tasks of the order; equal ones by their ids."""
        rows, taken = draw.candidates, []
        u, p = numbers(rows, "prompt_uncertainty"), numbers(rows, "prediction_probability")
        values = [one * (1 - other) for one, other in zip(u, p, strict=True)]
        order = sorted(zip(values, rows["task_id"], strict=True), key=lambda one: (-one[0], one[1]))
        for value, task_id in order[: draw.n]:
            taken.append(Choice(task_id, value, f"U (1 - P) = {value:.4g}"))
        return taken
