"""Bounds what rendering a template may take, for templates come with requests too.

Jinja's sandbox keeps a template from the server's objects, not from its time and memory. Here every
loop, operation, filter and call pays for the size of what it touches before it touches it, out of
one budget for a rendering; `WORK` units take about a tenth of a second. What cannot be bounded so
is left out: macros, blocks, imports, `namespace`, powers, and whatever pads or formats to a width.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from jinja2 import StrictUndefined, Template, TemplateSyntaxError, nodes, pass_context
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context, LoopContext, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

WORK = 2_000_000
"""Units of a rendering: characters written or gone through, and nodes of a loop's body run."""

MAX_SOURCE = 65_536
"""Longest template, in characters."""

# Names of our own filters, such as no template can write down; that `map` takes any does no harm.
_PAY, _EACH, _CONCAT = "(pay)", "(each)", "(concat)"

_left: ContextVar[list[int]] = ContextVar("_left")

# fmt: off
_NODES = (
    nodes.Template, nodes.Output, nodes.TemplateData, nodes.If, nodes.For, nodes.Assign, nodes.Name,
    nodes.Const, nodes.Tuple, nodes.List, nodes.Dict, nodes.Pair, nodes.Keyword, nodes.Getattr,
    nodes.Getitem, nodes.Slice, nodes.Concat, nodes.Compare, nodes.Operand, nodes.And, nodes.Or,
    nodes.Not, nodes.CondExpr, nodes.Add, nodes.Sub, nodes.Mul, nodes.Div, nodes.FloorDiv,
    nodes.Mod, nodes.Neg, nodes.Pos, nodes.Filter, nodes.Test, nodes.Call,
)
_FILTERS = (
    "abs", "capitalize", "count", "d", "default", "dictsort", "e", "escape", "first", "float",
    "indent", "int", "items", "join", "last", "length", "list", "lower", "map", "max", "min",
    "replace", "reverse", "sort", "string", "title", "tojson", "trim", "truncate", "unique",
    "upper", "wordcount",
)
_METHODS: dict[type, frozenset[str]] = {
    str: frozenset((
        "capitalize", "casefold", "count", "endswith", "find", "index", "isalnum", "isalpha",
        "isdigit", "islower", "isnumeric", "isspace", "istitle", "isupper", "join", "lower",
        "lstrip", "partition", "removeprefix", "removesuffix", "replace", "rfind", "rindex",
        "rpartition", "rsplit", "rstrip", "split", "splitlines", "startswith", "strip", "swapcase",
        "title", "upper",
    )),
    dict: frozenset(("get", "items", "keys", "values")),
    list: frozenset(("count", "index")),
    tuple: frozenset(("count", "index")),
    LoopContext: frozenset(("changed", "cycle")),
}
# fmt: on


@contextmanager
def _bounded() -> Iterator[None]:
    token = _left.set([WORK])
    try:
        yield
    finally:
        _left.reset(token)


def _spend(units: int) -> None:
    left = _left.get()
    left[0] -= max(0, units)
    if left[0] < 0:
        raise SecurityError(f"takes too much work or writes too much, over {WORK:,} units")


def _pay(value: Any) -> Any:
    """The value, once it is paid for: containers with all that is in them, however often."""
    if isinstance(value, str):
        _spend(1 + len(value))
    elif isinstance(value, int):
        _spend(1 + value.bit_length() // 8)
    elif isinstance(value, dict):
        _spend(1)
        for key, inner in value.items():
            _pay(key)
            _pay(inner)
    elif isinstance(value, range):
        _spend(1 + len(value))
    elif isinstance(value, (list, tuple)):
        _spend(1)
        for inner in value:
            _pay(inner)
    else:
        _spend(1)
    return value


@pass_context  # else Jinja would call it when it compiles
def _written(_context: Context, value: Any) -> Any:
    return _pay(value)


def _each(values: Iterable[Any], weight: int) -> Iterator[Any]:
    """What a loop goes through, its body being paid for each time."""
    for value in values:
        _spend(weight)
        yield value


class BoundedEnvironment(ImmutableSandboxedEnvironment):
    """A sandbox with a budget for each rendering; its templates are rendered by `render`."""

    intercepted_binops = frozenset(("+", "-", "*", "/", "//", "%"))

    def __init__(self) -> None:
        super().__init__(undefined=StrictUndefined, optimized=False, finalize=_written)
        self.globals = {"range": self.globals["range"]}
        self.filters = {name: _paid(name, self.filters[name]) for name in _FILTERS}
        self.filters |= {_PAY: _pay, _EACH: _each, _CONCAT: _concat}

    def compiled(self, source: str) -> Template:
        """A template of this source.

        Raises:
            TemplateSyntaxError: If it is none, or uses what is left out.
        """
        if len(source) > MAX_SOURCE:
            problem = f"has {len(source):,} characters, the limit is {MAX_SOURCE:,}"
            raise TemplateSyntaxError(problem, 1)
        try:
            tree = self.parse(source)
            _check(tree)
            tree = _Paying().visit(tree)
            tree.set_environment(self)
            return self.from_string(tree)
        except (RecursionError, SyntaxError) as error:
            raise TemplateSyntaxError("is nested too deeply", 1) from error

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """The operation, once it is paid for."""
        if operator == "%" and isinstance(left, str):
            raise SecurityError("texts cannot be formatted with %; write them with ~")
        _pay(left)
        _pay(right)
        if isinstance(left, int) and isinstance(right, int):
            _spend((left.bit_length() * right.bit_length()) >> 6)
        elif operator == "*":
            for many, times in ((left, right), (right, left)):
                if isinstance(times, int) and isinstance(many, (str, list, tuple)):
                    _spend(len(many) * max(0, times))
        return super().call_binop(context, operator, left, right)

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805
        """The call, once it is paid for; of methods that can be bounded only."""
        if isinstance(__obj, Undefined):
            return super().call(__context, __obj)  # which says what is undefined
        owner, name = getattr(__obj, "__self__", None), getattr(__obj, "__name__", "")
        known = any(isinstance(owner, kind) and name in _METHODS[kind] for kind in _METHODS)
        if not known and __obj is not __self.globals["range"]:
            raise SecurityError(f"{name or 'this'} cannot be called here")
        _pay([owner, *args, *kwargs.values()])
        if isinstance(owner, str) and name == "replace":
            _pay_replacing(owner, *args)
        if isinstance(owner, str) and name == "join":
            args = (_joined(args[0], owner), *args[1:])
        return super().call(__context, __obj, *args, **kwargs)


def render(template: Template, values: dict[str, Any]) -> str:
    """The text of a template of `BoundedEnvironment`.

    Raises:
        SecurityError: If it takes too much work, or does what is left out.
        TemplateError: If it fails.
    """
    pieces = []
    with _bounded():
        for piece in template.generate(values):
            _spend(len(piece))
            pieces.append(piece)
    return "".join(pieces)


def _check(tree: nodes.Template) -> None:
    """That it consists of what can be bounded."""
    for node in tree.find_all(nodes.Node):
        if isinstance(node, (nodes.Stmt, nodes.Expr)) and not isinstance(node, _NODES):
            name = type(node).__name__.lower()
            raise TemplateSyntaxError(f"{name} is not available in prompts", node.lineno)
        if isinstance(node, nodes.For) and node.recursive:
            raise TemplateSyntaxError("recursive loops are not available in prompts", node.lineno)


class _Paying(NodeTransformer):
    """Lets operations that have no hook in the sandbox go through a filter that makes them pay."""

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802
        """A loop: its body, for each time."""
        weight = sum(1 for _ in node.find_all(nodes.Node))
        self.generic_visit(node)
        node.iter = _filter(_EACH, node.iter, nodes.Const(weight, lineno=node.lineno))
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        """`~`: the texts it joins."""
        self.generic_visit(node)
        return _filter(_CONCAT, nodes.List(node.nodes, lineno=node.lineno))

    def visit_List(self, node: nodes.Expr) -> nodes.Node:  # noqa: N802
        """A container: all that is in it."""
        self.generic_visit(node)
        return _filter(_PAY, node)

    visit_Dict = visit_List  # noqa: N815

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:  # noqa: N802
        """A tuple, unless it is the target of an assignment."""
        self.generic_visit(node)
        return _filter(_PAY, node) if node.ctx == "load" else node

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:  # noqa: N802
        """A comparison: all its operands."""
        self.generic_visit(node)
        node.expr = _filter(_PAY, node.expr)
        for operand in node.ops:
            operand.expr = _filter(_PAY, operand.expr)
        return node

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:  # noqa: N802
        """An item or a slice: what it is taken of."""
        self.generic_visit(node)
        node.node = _filter(_PAY, node.node)
        return node

    def visit_Test(self, node: nodes.Test) -> nodes.Node:  # noqa: N802
        """A test: its arguments, but what it tests may be undefined."""
        self.generic_visit(node)
        node.args = [_filter(_PAY, each) for each in node.args]
        return node


def _filter(name: str, node: Any, *args: nodes.Expr) -> nodes.Filter:
    return nodes.Filter(node, name, list(args), [], None, None, lineno=node.lineno)


def _concat(values: list[Any]) -> str:
    return "".join(str(_pay(value)) for value in values)


def _joined(values: Iterable[Any], joint: str) -> list[Any]:
    """What is joined, paid for with the joints, whatever makes it up on the way."""
    items = []
    for value in values:
        _spend(len(joint))
        items.append(_pay(value))
    return items


def _pay_replacing(text: str, old: str, new: str, *_count: int) -> None:
    _spend(text.count(old) * len(new))


def _paid(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter that makes all its arguments pay first."""
    first = 1 if getattr(function, "jinja_pass_arg", None) is not None else 0

    @functools.wraps(function)
    def paying(*args: Any, **kwargs: Any) -> Any:
        head, (value, *rest) = args[:first], args[first:]
        _pay([value, *rest, *kwargs.values()])
        if name == "join":
            joint = rest[0] if rest else kwargs.get("d", "")
            if len(rest) > 1 or "attribute" in kwargs:
                raise SecurityError("join takes no attribute here; map(attribute=...) does")
            value = _joined(value, str(joint))
        elif name in ("list", "sort", "unique", "reverse") and not isinstance(value, str):
            value = _joined(value, "")
        elif name == "replace":
            given = dict(zip(("old", "new"), rest, strict=False)) | kwargs
            _pay_replacing(str(value), str(given.get("old", "")), str(given.get("new", "")))
        elif name == "indent":
            width = rest[0] if rest else kwargs.get("width", 4)
            lines = str(value).count("\n") + 1
            _spend(lines * (len(width) if isinstance(width, str) else max(0, int(width))))
        elif name == "tojson" and (rest or kwargs):
            raise SecurityError("tojson takes no argument here")
        return function(*head, value, *rest, **kwargs)

    return paying
