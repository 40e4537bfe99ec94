"""A template of a request takes neither the server's time nor its memory."""

from __future__ import annotations

import pytest

from engine.errors import InputError
from engine.prompts.own import OwnTemplate
from engine.prompts.sandbox import MAX_SOURCE
from engine.tasks import Example, Instance, Task

BOTH = "{{ definition }}{{ input }}"
TOO_MUCH = "takes too much work"
TASK = Task(
    id="t",
    definition="Say it",
    positive_examples=(Example(input="a", output="b"), Example(input="c", output="d")),
    labels=("b", "d"),
)
INSTANCE = Instance(id="0", input="one two")

MALICIOUS = {
    "long output": ("{% for i in range(99999) %}{{ input * 100 }}{% endfor %}", TOO_MUCH),
    "long text between": (f"{{% for i in range(99999) %}}{'x' * 999}{{% endfor %}}", TOO_MUCH),
    "nested loops": (
        "{% for i in range(9999) %}{% for j in range(9999) %}{% endfor %}{% endfor %}",
        TOO_MUCH,
    ),
    "silent loops": (
        "{% for i in range(9999) if range(9999) | max < 0 %}{% endfor %}",
        TOO_MUCH,
    ),
    "long range": ("{{ range(10 * 9999999) | length }}", "Range too big"),
    "repeated text": ("{{ 'a' * 9999999999 }}", TOO_MUCH),
    "repeated list": ("{{ [1] * 9999999999 }}", TOO_MUCH),
    "doubled text": ("{% set a = input %}" + "{% set a = a ~ a %}" * 60 + "{{ a }}", TOO_MUCH),
    "added text": ("{% set a = input %}" + "{% set a = a + a %}" * 60 + "{{ a }}", TOO_MUCH),
    "laughs": ("{% set a = [1] %}" + "{% set a = [a, a] %}" * 60 + "{{ a == [] }}", TOO_MUCH),
    "large number": ("{% set a = 99 %}" + "{% set a = a * a %}" * 60 + "{{ a == 1 }}", TOO_MUCH),
    "power": ("{{ 9 ** 9 ** 9 }}", "line 1: pow is not available in prompts"),
    "replaced": ("{{ ('a' * 9999) | replace('a', 'b' * 9999) }}", TOO_MUCH),
    "replaced by name": ("{{ ('a' * 9999) | replace(new='b' * 9999, old='a') }}", TOO_MUCH),
    "replaced by method": ("{{ ('a' * 9999).replace('', 'b' * 9999) }}", TOO_MUCH),
    "joined": ("{{ range(9999) | join('a' * 9999) }}", TOO_MUCH),
    "joined by method": ("{{ ('a' * 9999).join(definition * 999) }}", TOO_MUCH),
    "mapped": ("{{ range(9999) | map('replace', '', 'a' * 9999) | list }}", TOO_MUCH),
    "our own filter": ("{% for i in [1] | _each(-9999) %}{% endfor %}", "No filter named '_each'"),
    "our own filter mapped": (
        "{{ [[1]] | map('(each)', -9999999999) | map('list') | list }}"
        "{% for i in range(9999) %}{% for j in range(9999) %}{% endfor %}{% endfor %}",
        TOO_MUCH,
    ),
    "indented": ("{{ input | indent(9999999999, true) }}", TOO_MUCH),
    "centred": ("{{ input | center(9999999999) }}", "No filter named 'center'"),
    "format": ("{{ '{:>9999999999}'.format(1) }}", "format cannot be called here"),
    "format by item": ("{{ ''['for' ~ 'mat'](1) }}", "format cannot be called here"),
    "percent": ("{{ '%9999999999d' % 1 }}", "cannot be formatted with %"),
    "padded": ("{{ input.ljust(9999999999) }}", "ljust cannot be called here"),
    "tabs": ("{{ input.expandtabs(9999999999) }}", "expandtabs cannot be called here"),
    "batches": ("{{ [1] | batch(9999999999, 0) | list }}", "No filter named 'batch'"),
    "JSON": ("{{ [1] | tojson(9999999999) }}", "tojson takes no argument"),
    "macro": ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "macro is not available"),
    "recursion": (
        "{% for a in [1] recursive %}{{ loop([1]) }}{% endfor %}",
        "recursive loops are not available",
    ),
    "namespace": ("{% set n = namespace(a='a') %}", "'namespace' is undefined"),
    "lipsum": ("{{ lipsum(99999) }}", "'lipsum' is undefined"),
    "import": ("{% import 'x' as x %}", "import is not available"),
    "depth": (f"{{{{ {'(' * 9999}1{')' * 9999} }}}}", "nested too deeply"),
    "blocks": ("{% if 1 %}" * 500 + "{% endif %}" * 500, "nested too deeply"),
    "length": ("x" * (MAX_SOURCE + 1), "the limit is 65,536"),
    "attributes": ("{{ definition.__class__.__mro__ }}", "unsafe"),
}


@pytest.mark.parametrize("name", MALICIOUS)
def test_a_malicious_template_is_refused_at_once(name: str) -> None:
    source, problem = MALICIOUS[name]
    with pytest.raises(InputError, match=problem) as caught:
        OwnTemplate(source + BOTH, "evil", "", "</s>").text(TASK, INSTANCE)
    assert caught.value.field == "prompt.template"
    assert caught.value.file == "evil"


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
