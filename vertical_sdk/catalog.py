"""Named parts: what a recipe may choose from, and what each part may be told.

A part is a function registered under a name. Its positional parameters are given by the SDK; its keyword-only parameters
are what a recipe may set, and are checked against the function's own signature before any weights are loaded:

    @losses.register("focal")
    def focal(logits: Tensor, labels: Tensor, *, gamma: float = 2.0) -> Tensor: ...

A vertical's own parts have its name in front ("medical.abbreviations") and live in `domains/<vertical>/<file>.py`, where
the file is the catalog's `domain_file`; that file is imported when a recipe first names such a part.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Annotated, Any, Generic, TypeVar, get_args, get_origin, get_type_hints

from pydantic import Field, TypeAdapter, ValidationError

from vertical_sdk.errors import RecipeError, UnknownName, did_you_mean
from vertical_sdk.types import Task

__all__ = [
    "Catalog",
    "NotNegative",
    "Share",
    "augmentations",
    "baselines",
    "cleaners",
    "deidentifiers",
    "domain_names",
    "import_domain",
    "losses",
    "metrics",
    "package_folder",
    "readers",
    "splitters",
]

P = TypeVar("P", bound=Callable[..., Any])
NotNegative = Annotated[float, Field(ge=0)]
"""For a part's parameter: a number from 0."""
Share = Annotated[float, Field(ge=0, le=1)]
"""For a part's parameter: a number from 0 to 1."""
DOMAINS = "vertical_sdk.domains"
ENTRY_POINTS = "vertical_sdk.domains"
"""The group of entry points by which an installed package adds a vertical."""


class Catalog(Generic[P]):
    """A table from names to functions of one kind."""

    def __init__(self, kind: str, home: str, domain_file: str | None = None) -> None:
        """`home` is the module whose import registers the general parts; `domain_file` a vertical's file for this kind."""
        self.kind = kind
        self._home = home
        self._domain_file = domain_file
        self._parts: dict[str, P] = {}
        self._tasks: dict[str, tuple[Task, ...]] = {}

    def register(self, name: str, *, tasks: Sequence[Task] = ()) -> Callable[[P], P]:
        """Put the decorated function under a name; a name is given once. It is for these tasks, or for any where none is named."""

        def put(part: P) -> P:
            taken = self._parts.get(name)
            if taken is not None and (taken.__module__, taken.__qualname__) != (part.__module__, part.__qualname__):
                raise ValueError(f"the {self.kind} {name!r} is defined twice: in {taken.__module__} and in {part.__module__}")
            self._parts[name] = part
            self._tasks[name] = tuple(tasks)
            return part

        return put

    def names(self, vertical: str | None = None) -> list[str]:
        """All general names, and those of one vertical if it is given."""
        self._load(vertical)
        return sorted(n for n in self._parts if "." not in n or n.partition(".")[0] == vertical)

    def get(self, name: str, where: str = "") -> P:
        """The part of that name.

        Raises UnknownName, which offers the nearest name.
        """
        vertical = name.partition(".")[0] if "." in name else None
        self._load(vertical, where)
        try:
            return self._parts[name]
        except KeyError:
            raise UnknownName(self.kind, name, self.names(vertical), where) from None

    def require(self, name: str, task: Task, where: str = "", *, like: Sequence[Task] = ()) -> None:
        """Check that a part serves a task, or one of those that the task is `like`.

        Raises RecipeError, which lists the parts that do.
        """
        self.get(name, where)
        tasks = self._tasks[name]
        served = {task, *like}
        if tasks and not served & set(tasks):
            at = f"{where}: " if where else ""
            others = [n for n in self.names() if not self._tasks[n] or served & set(self._tasks[n])]
            raise RecipeError(
                f"{at}{name} is for {' and '.join(tasks)}, not for {task}, for which there is {', '.join(others)}."
            )

    def options(self, name: str, where: str = "") -> dict[str, inspect.Parameter]:
        """What a recipe may set on a part: its keyword-only parameters, with their types as types."""
        part = inspect.unwrap(self.get(name, where))
        found = {n: p for n, p in inspect.signature(part).parameters.items() if p.kind is p.KEYWORD_ONLY}
        # Only these annotations are looked up: those of positional parameters may name what is imported for type checkers only.
        named = SimpleNamespace(__annotations__={n: p.annotation for n, p in found.items() if p.annotation is not p.empty})
        hints = get_type_hints(named, getattr(part, "__globals__", {}), include_extras=True)
        return {n: p.replace(annotation=hints.get(n, Any)) for n, p in found.items()}

    def check(self, name: str, arguments: Mapping[str, Any], where: str = "") -> dict[str, Any]:
        """The arguments, converted to the types that the part's signature names.

        Raises RecipeError that names the argument and what would be right.
        """
        at = f"{where}: " if where else ""
        options = self.options(name, where)
        takes = ", ".join(_shown(p) for p in options.values()) or "no arguments"
        checked = {}
        for key, value in arguments.items():
            if key not in options:
                raise RecipeError(f"{at}{name} has no argument {key!r}; it takes {takes}.{did_you_mean(key, options)}")
            try:
                checked[key] = TypeAdapter(options[key].annotation).validate_python(value)
            except ValidationError as error:
                detail = error.errors()[0]["msg"].partition(" should ")[2] or error.errors()[0]["msg"]
                raise RecipeError(
                    f"{at}{name}: {key} = {value!r} is wrong: it should {detail}; it takes {_shown(options[key])}."
                ) from None
        missing = [n for n, p in options.items() if p.default is p.empty and n not in arguments]
        if missing:
            raise RecipeError(f"{at}{name} must be given {', '.join(missing)}; it takes {takes}.")
        return checked

    def _load(self, vertical: str | None, where: str = "") -> None:
        importlib.import_module(self._home)
        if vertical and self._domain_file:
            package = import_domain(vertical, where)
            module = f"{package.__name__}.{self._domain_file}"
            if importlib.util.find_spec(module):
                importlib.import_module(module)


def _shown(parameter: inspect.Parameter) -> str:
    """A parameter as a reader would write it: `gamma: float = 2.0`."""
    of = parameter.annotation
    plain = get_args(of)[0] if get_origin(of) is Annotated else of
    return str(parameter.replace(kind=inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=plain))


def import_domain(vertical: str, where: str = "") -> ModuleType:
    """The package of a vertical: one of ours, or an installed one that offers itself by an entry point.

    Raises UnknownName.
    """
    if vertical in _own_domains():
        return importlib.import_module(f"{DOMAINS}.{vertical}")
    for entry in importlib.metadata.entry_points(group=ENTRY_POINTS):
        if entry.name == vertical:
            return importlib.import_module(entry.module)
    raise UnknownName("vertical", vertical, domain_names(), where)


def domain_names() -> list[str]:
    """Our verticals and those that installed packages add."""
    return sorted({*_own_domains(), *(entry.name for entry in importlib.metadata.entry_points(group=ENTRY_POINTS))})


def package_folder(package: str) -> Path | None:
    """Where a package lies, without importing it; None where there is none."""
    try:
        spec = importlib.util.find_spec(package)
    except ModuleNotFoundError:
        return None
    locations = list(spec.submodule_search_locations or []) if spec else []
    return Path(locations[0]) if locations else None


def _own_domains() -> list[str]:
    folder = package_folder(DOMAINS)
    return [path.name for path in folder.iterdir() if (path / "__init__.py").is_file()] if folder else []


losses: Catalog[Callable[..., Any]] = Catalog("loss", "vertical_sdk.losses", "losses")
metrics: Catalog[Callable[..., Any]] = Catalog("metric", "vertical_sdk.metrics", "metrics")
readers: Catalog[Callable[..., Any]] = Catalog("reader", "vertical_sdk.data", "data")
cleaners: Catalog[Callable[..., Any]] = Catalog("cleaner", "vertical_sdk.data.clean", "data")
deidentifiers: Catalog[Callable[..., Any]] = Catalog("de-identifier", "vertical_sdk.data.deidentify", "deidentify")
splitters: Catalog[Callable[..., Any]] = Catalog("splitter", "vertical_sdk.data.split", "data")
augmentations: Catalog[Callable[..., Any]] = Catalog("augmentation", "vertical_sdk.data.augment", "augment")
baselines: Catalog[Callable[..., Any]] = Catalog("baseline", "vertical_sdk.baselines")
