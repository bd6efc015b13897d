"""Named parts are found by name, and what a recipe sets on them is checked against their signatures."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import pytest

from vertical_sdk.catalog import (
    Catalog,
    augmentations,
    baselines,
    cleaners,
    deidentifiers,
    domain_names,
    import_domain,
    losses,
    metrics,
    readers,
    splitters,
)
from vertical_sdk.errors import RecipeError, UnknownName

if TYPE_CHECKING:
    from torch import Tensor


@pytest.fixture
def parts() -> Catalog[Callable[..., Any]]:
    table: Catalog[Callable[..., Any]] = Catalog("loss", "vertical_sdk.errors")

    @table.register("focal")
    def focal(logits: Tensor, labels: Tensor, *, gamma: float = 2.0, reduce: Literal["mean", "sum"] = "mean") -> Tensor:
        raise NotImplementedError

    @table.register("by_rank")
    def by_rank(logits: Tensor, *, ranks: tuple[int, ...]) -> Tensor:
        raise NotImplementedError

    return table


def test_a_misspelt_name_gets_the_nearest_name_suggested(parts: Catalog[Any]) -> None:
    with pytest.raises(
        UnknownName, match=r"^here: no loss is called 'focl'\. Did you mean 'focal'\? Available: by_rank, focal\.$"
    ):
        parts.get("focl", "here")


def test_an_unknown_argument_is_refused_with_the_options(parts: Catalog[Any]) -> None:
    with pytest.raises(RecipeError) as caught:
        parts.check("focal", {"gama": 2}, "loss")

    assert str(caught.value) == (
        "loss: focal has no argument 'gama'. It takes gamma: float = 2.0, reduce: Literal['mean', 'sum'] = 'mean'."
        " Did you mean 'gamma'?"
    )


def test_an_argument_of_the_wrong_type_is_named_with_its_type(parts: Catalog[Any]) -> None:
    with pytest.raises(RecipeError, match=r"focal: gamma = 'much' is wrong: .*number.*\. It takes gamma: float = 2\.0\.$"):
        parts.check("focal", {"gamma": "much"})


def test_an_argument_outside_the_choices_is_refused(parts: Catalog[Any]) -> None:
    with pytest.raises(RecipeError, match="reduce = 'max' is wrong"):
        parts.check("focal", {"reduce": "max"})


def test_an_argument_without_a_default_must_be_given(parts: Catalog[Any]) -> None:
    with pytest.raises(RecipeError, match=r"by_rank needs ranks"):
        parts.check("by_rank", {})


def test_arguments_come_back_in_the_types_of_the_signature(parts: Catalog[Any]) -> None:
    assert parts.check("by_rank", {"ranks": [1, 2]}) == {"ranks": (1, 2)}


def test_a_positional_parameter_is_not_an_option(parts: Catalog[Any]) -> None:
    with pytest.raises(RecipeError, match="focal has no argument 'labels'"):
        parts.check("focal", {"labels": 1})


def test_a_second_function_under_one_name_is_refused(parts: Catalog[Any]) -> None:
    def other() -> None: ...

    with pytest.raises(ValueError, match="the loss 'focal' is defined twice"):
        parts.register("focal")(other)


def test_registering_the_same_function_again_changes_nothing(parts: Catalog[Any]) -> None:
    part = parts.get("focal")

    assert parts.register("focal")(part) is part


def test_a_part_of_an_unknown_vertical_lists_the_known_verticals() -> None:
    with pytest.raises(UnknownName, match=r"^loss: no vertical is called 'medicin'\. Did you mean 'medical'\?"):
        augmentations.get("medicin.abbreviations", "loss")


def test_a_vertical_is_listed_by_its_folder() -> None:
    assert "medical" in domain_names()
    assert import_domain("medical").__name__ == "vertical_sdk.domains.medical"


@pytest.mark.parametrize("name", ["", "os", "../medical", "medical.augment"])
def test_only_a_vertical_is_imported_by_its_name(name: str) -> None:
    with pytest.raises(UnknownName):
        import_domain(name)


def test_a_part_keeps_what_was_registered_with_it() -> None:
    table: Catalog[Callable[..., Any]] = Catalog("metric", "vertical_sdk.errors")

    def read_prices(rows: list[Any], *, field: str = "price") -> list[Any]:
        raise NotImplementedError

    @table.register("cost", tasks=("regression",), title="mean cost", higher_is_better=False, prepare=read_prices)
    def cost(predictions: Any, facts: Any, *, least: float = 0.0) -> float:
        raise NotImplementedError

    part = table.part("cost")

    assert (part.name, part.function, part.tasks) == ("cost", cost, ("regression",))
    assert (part.title, part.higher_is_better, part.prepare) == ("mean cost", False, read_prices)
    assert (part.supports("regression"), part.supports("generation")) == (True, False)
    assert table.get("cost") is cost


def test_options_of_prepare_are_options_of_the_part() -> None:
    table: Catalog[Callable[..., Any]] = Catalog("metric", "vertical_sdk.errors")

    def read_prices(rows: list[Any], *, field: str) -> list[Any]:
        raise NotImplementedError

    @table.register("cost", prepare=read_prices)
    def cost(predictions: Any, facts: Any, *, least: float = 0.0) -> float:
        raise NotImplementedError

    assert table.check("cost", {"field": "price", "least": 1}) == {"field": "price", "least": 1.0}
    with pytest.raises(RecipeError, match=r"^cost needs field\. It takes field: str, least: float = 0\.0\.$"):
        table.check("cost", {})


def test_a_part_without_a_title_is_called_by_its_name(parts: Catalog[Any]) -> None:
    assert parts.part("focal").title == "focal"


def test_a_part_cannot_be_changed(parts: Catalog[Any]) -> None:
    with pytest.raises(AttributeError):
        parts.part("focal").title = "other"  # type: ignore[misc]


def test_the_class_of_a_stored_part_is_imported_by_its_path(parts: Catalog[Any]) -> None:
    parts.register("late", saves_as="vertical_sdk.errors:RecipeError")(test_a_part_without_a_title_is_called_by_its_name)
    parts.register("direct", saves_as=UnknownName)(test_a_part_cannot_be_changed)

    assert parts.part("late").load_class() is RecipeError
    assert parts.part("direct").load_class() is UnknownName
    with pytest.raises(TypeError, match="focal was registered without saves_as"):
        parts.part("focal").load_class()


@pytest.mark.parametrize(
    "table",
    [losses, metrics, readers, cleaners, deidentifiers, splitters, augmentations, baselines],
    ids=lambda table: str(table.kind),
)
def test_an_extra_of_a_part_is_an_extra_of_this_package(table: Catalog[Any]) -> None:
    extras = set(importlib.metadata.metadata("vertical_sdk").get_all("Provides-Extra") or ())
    names = {name for vertical in (None, *domain_names()) for name in table.names(vertical)}

    assert {table.part(name).extra for name in names} - {None} <= extras
