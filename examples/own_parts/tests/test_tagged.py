"""Instances of a task share all that stands before their inputs; configs know the layout."""

from own_parts.tagged import tagged

from engine.prompts.layouts import LAYOUTS
from engine.prompts.prompt_config import PromptConfig
from engine.tasks import Example, Instance, Task


def test_instances_share_what_stands_before_them() -> None:
    example = Example(input="grass", output="green", explanation="It is.")
    task = Task(id="colours", definition="Say the colour.", positive_examples=(example,))
    sky, sea = (tagged(task, Instance(id=name, input=name), True) for name in ("sky", "sea"))
    shared = "<task>Say the colour.</task>\n<input>grass</input><output>green</output><why>It is."
    assert sky == f"{shared}</why>\n<input>sky</input><output>"
    assert sea.startswith(shared)
    assert LAYOUTS[PromptConfig(layout="tagged").layout].ending == "<output>"
