"""A template of the user's own: what it may do, and what is told when it fails."""

from __future__ import annotations

import pytest

from engine.errors import InputError
from engine.prompts.own import OwnTemplate
from engine.tasks import Example, Instance, Task

BOTH = "{{ definition }}{{ input }}"
TASK = Task(
    id="t",
    definition="Say it",
    positive_examples=(Example(input="a", output="b"), Example(input="c", output="d")),
    labels=("b", "d"),
)
INSTANCE = Instance(id="0", input="one two")

FAULTS = {
    "division": ("{{ 1 / 0 }}", "ZeroDivisionError: division by zero"),
    "type": ("{{ input + 1 }}", "TypeError: can only concatenate"),
    "key": ("{{ {}[definition] }}", "has no attribute 'Say it'"),
    "value": ("{{ 'a'.index('b') }}", "ValueError: substring not found"),
    "lookup": ("{{ '{0} {1}'.format(1) }}", "IndexError: "),
    "number": ("{{ 10.0 ** 999 }}", "OverflowError: "),
    "memory": ("{{ 'a' * 99999999999999 }}", "MemoryError"),
    "loop": ("{% for a in 5 %}{% endfor %}", "TypeError: "),
    "filter": ("{{ input | no_such }}", "line 1: No filter named 'no_such'"),
    "cycler": ("{{ cycler() }}", "RuntimeError: at least one item"),
    "import": ("{% import 'x' as x %}", "no loader"),
    "attributes": ("{{ definition.__class__.__mro__ }}", "unsafe"),
    "attributes by format": ("{{ '{0.__class__}'.format(input) }}", "unsafe"),
    "long range": ("{{ range(10 * 9999999) | length }}", "Range too big"),
    "depth": (f"{{{{ {'(' * 9999}1{')' * 9999} }}}}", "RecursionError: "),
    "blocks": ("{% for i in [1] %}" * 40 + "{% endfor %}" * 40, "SyntaxError: too many statically"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_told_whatever_python_calls_it(name: str) -> None:
    source, problem = FAULTS[name]
    with pytest.raises(InputError) as caught:
        OwnTemplate(source + BOTH, "mine", "", "</s>").text(TASK, INSTANCE)
    assert problem in caught.value.problem
    assert "\n" not in str(caught.value)
    assert (caught.value.file, caught.value.field) == ("mine", "prompt.template")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{{ definition | trim | upper }}|{{ input.split()[-1] }}", "SAY IT|two"),
        ("{{ definition }}{{ input }}{{ labels | join('/') }}", "Say itone twob/d"),
        (
            "{% for e in positive_examples %}{{ loop.index }}/{{ loop.length }} {{ e.input ~ '>' ~ "
            "e['output'] }}{{ ', ' if not loop.last }}{% endfor %}{{ definition }}{{ input }}",
            "1/2 a>b, 2/2 c>dSay itone two",
        ),
        (
            "{% for kind, shown in [('+', positive_examples), ('-', negative_examples)] %}"
            "{{ kind }}{{ shown | map(attribute='output') | join(',') }}"
            "{% else %}none{% endfor %}{{ definition }}{{ input }}",
            "+b,d-Say itone two",
        ),
        ("{% set q = definition[:3] + '?' %}{{ q }}{{ definition }}{{ input }}", "Say?Say it"),
        ("{% if category is none %}-{% endif %}{{ definition }}{{ input }}", "-Say itone two"),
        ("{{ category or 'none' }}{{ definition }}{{ input | replace('one', 'two') }}", "two two"),
        ("{{ range(3) | list }}{{ 7 % 4 }}{{ definition }}{{ input }}", "[0, 1, 2]3Say"),
        ("{% macro m(x) %}<{{ x }}>{% endmacro %}{{ m(definition) }}{{ input }}", "<Say it>one"),
        (
            "{% set n = namespace(a='-') %}{% for e in labels %}{% set n.a = n.a ~ e %}{% endfor %}"
            "{{ n.a }}{{ definition }}{{ input }}",
            "-bdSay it",
        ),
        ("{{ '%5s' % definition[:3] }}{{ definition }}{{ input }}", "  SaySay it"),
        ("{{ input | tojson }}{{ definition }}{{ nothing | default('-') }}", '"one two"Say it-'),
    ],
)
def test_an_ordinary_template_works(source: str, expected: str) -> None:
    assert expected in OwnTemplate(source, "mine", "", "</s>").text(TASK, INSTANCE)


def test_long_texts_are_no_crime() -> None:
    long = "word " * 60_000
    template = OwnTemplate("{{ definition | trim }}\n{{ input | trim }}", "mine", "", "</s>")
    text = template.text(TASK, Instance(id="0", input=long))
    assert text == f"Say it\n{long.strip()}"
