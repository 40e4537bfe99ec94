"""What there is of a kind, by name: ours, and what installed packages offer as entry points.

    [project.entry-points."jostle.measures"]
    my_measure = "my_package.measures:MY_MEASURE"

| group | what is named | see |
| --- | --- | --- |
| `jostle.measures` | a `Measure` | `engine.measures.measure`, `..._testing` |
| `jostle.inputs` | an `Input`, a kind of table that measures go by | `engine.measures.measure` |
| `jostle.questions` | a `Question` | `engine.questions.question` |
| `jostle.strategies` | a subclass of `Strategy` | `training.selection.strategy`, `..._testing` |
| `jostle.perturbations` | a subclass of `Step`, mostly `TextStep` | `engine.perturb.base` |
| `jostle.layouts` | a `Layout` | `engine.prompts.layouts` |
| `jostle.formats` | a `TaskFormat` or an `InstanceFormat` of records | `engine.pools.formats` |

Its name is its attribute `name`; `examples/own_parts` is a package that adds one of each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib.metadata import entry_points
from typing import Any, TypeVar

from engine.errors import InputError

T = TypeVar("T")


class Registry(Mapping[str, T]):
    """All of a kind by name: ours first, then those of packages. Nothing is loaded before it is
    asked for.

    Args:
        kind: What one is called in messages.
        group: The entry-point group.
        base: What each must be: an instance of it, or of one of several.
        ours: Makes ours.
        classes: Whether each must be a subclass in the place of an instance.
        unique: Attributes that no two may share, beside the name.

    Raises:
        InputError: When it is asked, if what a package offers cannot be loaded, is none, or takes a
            name that is taken.
    """

    def __init__(
        self,
        kind: str,
        group: str,
        base: type[Any] | tuple[type[Any], ...],
        ours: Callable[[], Iterable[T]],
        *,
        classes: bool = False,
        unique: Sequence[str] = (),
    ) -> None:
        self.kind = kind
        self.group = group
        self._bases = base if isinstance(base, tuple) else (base,)
        self._ours = ours
        self._classes = classes
        self._unique = unique
        self._found: dict[str, T] | None = None

    def find(self, name: str, *, file: object | None = None, field: str | None = None) -> T:
        """The one of this name.

        Raises:
            InputError: If there is none; the message lists the valid names.
        """
        if name not in self:
            raise InputError(self.complaint(name), file=file, field=field)
        return self[name]

    def complaint(self, name: object, valid: Iterable[str] | None = None) -> str:
        """That there is none of a name, and which there are."""
        names = ", ".join(self if valid is None else valid)
        return f"unknown {self.kind} {name!r}; valid here: {names}"

    def __getitem__(self, name: str) -> T:
        return self._all()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def _all(self) -> dict[str, T]:
        if self._found is None:
            found = {self._name(each): each for each in self._ours()}
            for point in entry_points(group=self.group):
                offered = self._loaded(point)
                name = self._name(offered)
                if name in found:
                    problem = f"a {self.kind} is called {name!r} already"
                    raise InputError(problem, file=self.group, record=point.name)
                for attribute in self._unique:
                    value = getattr(offered, attribute)
                    if any(getattr(each, attribute) == value for each in found.values()):
                        problem = f"a {self.kind} has the {attribute} {value!r} already"
                        raise InputError(problem, file=self.group, record=point.name)
                found[name] = offered
            self._found = found
        return self._found

    def _loaded(self, point: Any) -> Any:
        try:
            offered = point.load()
        except (ImportError, AttributeError) as error:
            problem = f"cannot be loaded: {error}"
            raise InputError(problem, file=self.group, record=point.name) from error
        if self._classes:
            good = isinstance(offered, type) and issubclass(offered, self._bases)
        else:
            good = isinstance(offered, self._bases)
        if not good:
            wanted = " or ".join(f"{base.__module__}.{base.__qualname__}" for base in self._bases)
            problem = f"{point.value} is no {'subclass of ' if self._classes else ''}{wanted}"
            raise InputError(problem, file=self.group, record=point.name)
        return offered

    def _name(self, each: Any) -> str:
        """Its own name; a class's is the default of the field `name`."""
        return str(each.model_fields["name"].default if self._classes else each.name)
