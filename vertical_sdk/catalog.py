"""Catalogs: tables from names to parts. A recipe chooses parts by name and sets their keyword options.

A part is a function registered under a name. The SDK passes its positional parameters. Its keyword-only parameters are
options of the recipe, which are checked against the function's own signature before any weights are loaded:

    @losses.register("focal", tasks=("classification", "ordinal", "generation"))
    def focal(logits: Tensor, labels: Tensor, *, gamma: float = 2.0) -> Tensor: ...

Everything else that the library knows about a part is given at its registration and read from its `Part`, so a new part needs
no edited line elsewhere.

A vertical's own parts have its name as a prefix ("medical.abbreviations") and are defined in `domains/<vertical>/<file>.py`.
<file> is the catalog's `domain_file`. It is imported when a recipe first names such a part.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import importlib.util
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Annotated, Any, Generic, TypeVar, get_args, get_origin, get_type_hints

from pydantic import Field, TypeAdapter, ValidationError

from vertical_sdk.errors import RecipeError, UnknownName, did_you_mean
from vertical_sdk.types import TaskName

__all__ = [
    "CORRELATION",
    "POSITIVE",
    "SHARE",
    "Catalog",
    "NotNegative",
    "Part",
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
"""Type of an option: a number from 0."""
Share = Annotated[float, Field(ge=0, le=1)]
"""Type of an option: a number from 0 to 1."""
ANY = (-math.inf, math.inf)
"""The range of a metric that may have any value."""
SHARE, POSITIVE, CORRELATION = (0.0, 1.0), (0.0, math.inf), (-1.0, 1.0)
"""The ranges of common kinds of metrics."""
DOMAINS = "vertical_sdk.domains"
ENTRY_POINTS = "vertical_sdk.domains"
"""The group of entry points by which an installed package adds a vertical."""


@dataclass(frozen=True)
class Part(Generic[P]):
    """A registered function with everything that the library knows about it.

    name              the name that a recipe uses
    function          the function itself
    tasks             the tasks that it supports; empty means every task
    title             what reports call it; the name if none was given
    meaning           metrics: a sentence about it for reports
    higher_is_better  metrics: False for an error or a loss
    within            metrics: its lowest and its highest value; a card that claims another is refused
    each_label        metrics: True if it averages over labels, so that it is known only if every label has rows
    curve             metrics: a function that draws a curve for the report, see `vertical_sdk.metrics.measure.curve_of`
    saves_as          baselines: the class that stores the fitted baseline as arrays, or "module:Class", which is imported when it is
                      needed. None means the baseline cannot be stored, so it cannot be a member of an ensemble
    classical         baselines: rank among the classical methods. A report's headline compares with the lowest rank it has; None means
                      the headline never uses this baseline
    reads_base        baselines: True if it predicts by the frozen base; without it, the others of an ensemble could answer alone
    text_normalizer   cleaners: True if it rewrites each text by itself, so it also runs on the inputs of a trained specialist
    prepare           metrics: reads facts from the rows once, before a bootstrap measures them a thousand times; its keyword-only
                      parameters are options too; see `vertical_sdk.metrics`. Losses: finds, for each token of an answer, tokens to
                      avoid; see `vertical_sdk.losses`
    compares_rows     losses: True if it compares the rows of a batch with each other, so that the trainer must not split a batch
    recognizes        readers: whether the first bytes of a file are of the kind that this reader reads, so that errors can name it
    extra             the extra of this package that the part needs, as in `pip install '.[trees]'`
    """

    name: str
    function: P
    tasks: tuple[TaskName, ...] = ()
    title: str = ""
    meaning: str = ""
    higher_is_better: bool = True
    within: tuple[float, float] = ANY
    each_label: bool = False
    curve: Callable[..., Mapping[str, Any] | None] | None = None
    saves_as: type[Any] | str | None = None
    classical: int | None = None
    reads_base: bool = False
    text_normalizer: bool = False
    prepare: Callable[..., Any] | None = None
    compares_rows: bool = False
    recognizes: Callable[[bytes], bool] | None = None
    extra: str | None = None

    def supports(self, *tasks: TaskName) -> bool:
        """Whether a recipe of one of these tasks may use the part."""
        return not self.tasks or not set(tasks).isdisjoint(self.tasks)

    def load_class(self) -> type[Any]:
        """The class that stores the fitted part.

        Raises TypeError if the part was registered without `saves_as`.
        """
        if self.saves_as is None:
            raise TypeError(f"{self.name} was registered without saves_as, so it cannot be stored")
        if not isinstance(self.saves_as, str):
            return self.saves_as
        module, _, name = self.saves_as.partition(":")
        loaded: type[Any] = getattr(importlib.import_module(module), name)
        return loaded


class Catalog(Generic[P]):
    """A table from names to parts of one kind."""

    def __init__(self, kind: str, home: str, domain_file: str | None = None) -> None:
        """`home` is the module whose import registers the general parts; `domain_file` is a vertical's file for this kind."""
        self.kind = kind
        self._home = home
        self._domain_file = domain_file
        self._parts: dict[str, Part[P]] = {}

    def register(
        self,
        name: str,
        *,
        tasks: Sequence[TaskName] = (),
        title: str = "",
        meaning: str = "",
        higher_is_better: bool = True,
        within: tuple[float, float] = ANY,
        each_label: bool = False,
        curve: Callable[..., Mapping[str, Any] | None] | None = None,
        saves_as: type[Any] | str | None = None,
        classical: int | None = None,
        reads_base: bool = False,
        text_normalizer: bool = False,
        prepare: Callable[..., Any] | None = None,
        compares_rows: bool = False,
        recognizes: Callable[[bytes], bool] | None = None,
        extra: str | None = None,
    ) -> Callable[[P], P]:
        """Register the decorated function under a name. The other arguments are described in `Part`.

        Raises ValueError if another function already has the name.
        """

        def store(function: P) -> P:
            earlier = self._parts.get(name)
            if earlier is not None and _place(earlier.function) != _place(function):
                raise ValueError(
                    f"the {self.kind} {name!r} is defined twice: in {earlier.function.__module__} and in {function.__module__}"
                )
            self._parts[name] = Part(
                name=name,
                function=function,
                tasks=tuple(tasks),
                title=title or name,
                meaning=meaning,
                higher_is_better=higher_is_better,
                within=within,
                each_label=each_label,
                curve=curve,
                saves_as=saves_as,
                classical=classical,
                reads_base=reads_base,
                text_normalizer=text_normalizer,
                prepare=prepare,
                compares_rows=compares_rows,
                recognizes=recognizes,
                extra=extra,
            )
            return function

        return store

    def names(self, vertical: str | None = None) -> list[str]:
        """All general names, and those of one vertical if it is given."""
        self._load(vertical)
        return sorted(name for name in self._parts if "." not in name or name.partition(".")[0] == vertical)

    def part(self, name: str, where: str = "") -> Part[P]:
        """The part with this name: its function and what was registered with it.

        Raises UnknownName, which suggests the nearest name.
        """
        vertical = name.partition(".")[0] if "." in name else None
        if name not in self._parts:
            self._load(vertical, where)
        try:
            return self._parts[name]
        except KeyError:
            raise UnknownName(self.kind, name, self.names(vertical), where) from None

    def get(self, name: str, where: str = "") -> P:
        """The function with this name.

        Raises UnknownName, which suggests the nearest name.
        """
        return self.part(name, where).function

    def require(self, name: str, task: TaskName, where: str = "", *, like: Sequence[TaskName] = ()) -> None:
        """Check that a part supports a task, or one of those that the task is `like`.

        Raises RecipeError, which lists the parts that do.
        """
        part = self.part(name, where)
        if part.supports(task, *like):
            return
        supported = [other for other in self.names() if self._parts[other].supports(task, *like)]
        raise RecipeError(
            f"{name} supports {' and '.join(part.tasks)}, not {task}. For {task} use one of: {', '.join(supported)}.",
            where=where,
        )

    def options(self, name: str, where: str = "") -> dict[str, inspect.Parameter]:
        """The options of a part: the keyword-only parameters of its function and of its `prepare`, with their annotations evaluated."""
        part = self.part(name, where)
        functions = [part.function] if part.prepare is None else [part.function, part.prepare]
        return {n: p for function in map(inspect.unwrap, reversed(functions)) for n, p in _keyword_options(function).items()}

    def check(self, name: str, arguments: Mapping[str, Any], where: str = "") -> dict[str, Any]:
        """Check arguments against the part's options, and convert them to the options' types.

        Raises RecipeError that names the argument and the right form; UnknownName.
        """
        options = self.options(name, where)
        takes = ", ".join(_format_option(p) for p in options.values()) or "no arguments"
        checked = {}
        for key, value in arguments.items():
            if key not in options:
                raise RecipeError(f"{name} has no argument {key!r}. It takes {takes}.{did_you_mean(key, options)}", where=where)
            try:
                checked[key] = TypeAdapter(options[key].annotation).validate_python(value)
            except ValidationError as error:
                detail = error.errors()[0]["msg"].partition(" should ")[2] or error.errors()[0]["msg"]
                raise RecipeError(
                    f"{name}: {key} = {value!r} is wrong: it should {detail}. It takes {_format_option(options[key])}.",
                    where=where,
                ) from None
        missing = [n for n, p in options.items() if p.default is p.empty and n not in arguments]
        if missing:
            raise RecipeError(f"{name} needs {', '.join(missing)}. It takes {takes}.", where=where)
        return checked

    def recognize(self, head: bytes) -> str | None:
        """The name of the vertical's part that recognizes the first bytes of a file; None if no part does."""
        for vertical in domain_names():
            for name in self.names(vertical):
                recognizes = self._parts[name].recognizes
                if recognizes is not None and recognizes(head):
                    return name
        return None

    def _load(self, vertical: str | None, where: str = "") -> None:
        importlib.import_module(self._home)
        if vertical and self._domain_file:
            package = import_domain(vertical, where)
            module = f"{package.__name__}.{self._domain_file}"
            if importlib.util.find_spec(module):
                importlib.import_module(module)


def _place(function: Callable[..., Any]) -> tuple[str, str]:
    return function.__module__, function.__qualname__


@functools.cache
def _keyword_options(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    options = {n: p for n, p in inspect.signature(function).parameters.items() if p.kind is p.KEYWORD_ONLY}
    # Evaluate only these annotations: those of positional parameters may name what is imported for type checkers only.
    annotated = SimpleNamespace(__annotations__={n: p.annotation for n, p in options.items() if p.annotation is not p.empty})
    hints = get_type_hints(annotated, getattr(function, "__globals__", {}), include_extras=True)
    return {n: p.replace(annotation=hints.get(n, Any)) for n, p in options.items()}


def _format_option(parameter: inspect.Parameter) -> str:
    """Write an option as its signature does: `gamma: float = 2.0`."""
    annotation = parameter.annotation
    plain = get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation
    return str(parameter.replace(kind=inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=plain))


def import_domain(vertical: str, where: str = "") -> ModuleType:
    """Import the package of a vertical: one of this library, or an installed one that declares an entry point.

    Raises UnknownName.
    """
    if vertical in _own_domains():
        return importlib.import_module(f"{DOMAINS}.{vertical}")
    for entry in importlib.metadata.entry_points(group=ENTRY_POINTS):
        if entry.name == vertical:
            return importlib.import_module(entry.module)
    raise UnknownName("vertical", vertical, domain_names(), where)


def domain_names() -> list[str]:
    """The verticals of this library and those that installed packages add."""
    return sorted({*_own_domains(), *(entry.name for entry in importlib.metadata.entry_points(group=ENTRY_POINTS))})


def package_folder(package: str) -> Path | None:
    """The folder of a package, without importing it; None if there is no such package."""
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
baselines: Catalog[Callable[..., Any]] = Catalog("baseline", "vertical_sdk.baselines", "baselines")
