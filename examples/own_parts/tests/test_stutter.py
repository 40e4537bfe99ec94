"""Some words are said twice, and the config finds the perturbation by its name."""

from engine.perturb import Perturbation
from engine.protocol.score_config import ScoreConfig
from engine.tasks import Instance, Task


def test_words_are_said_twice() -> None:
    instance = Instance(id="1", input="sky", outputs=("blue",))
    task = Task(id="colors", definition="Say the color.", instances=(instance,))
    config = ScoreConfig.model_validate({"perturbation": {"name": "stutter", "rate": 1.0}})
    changed = Perturbation(config.perturbation, seed=0).apply(task, j=1)
    assert changed.definition == "Say Say the the color. color."
