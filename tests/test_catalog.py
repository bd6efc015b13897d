"""Named parts are found by name, and what a recipe sets on them is checked against their signatures."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import pytest

from vertical_sdk.catalog import Catalog, augmentations, domain_names, import_domain
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


def test_a_name_that_is_nearly_right_is_corrected(parts: Catalog[Any]) -> None:
    with pytest.raises(
        UnknownName, match=r"^here: no loss is called 'focl'\. Did you mean 'focal'\? Available: by_rank, focal\.$"
    ):
        parts.get("focl", "here")


def test_an_argument_that_the_part_does_not_take_is_named_with_those_it_takes(parts: Catalog[Any]) -> None:
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


def test_positional_parameters_are_not_for_a_recipe(parts: Catalog[Any]) -> None:
    with pytest.raises(RecipeError, match="focal has no argument 'labels'"):
        parts.check("focal", {"labels": 1})


def test_a_name_is_given_once(parts: Catalog[Any]) -> None:
    def other() -> None: ...

    with pytest.raises(ValueError, match="the loss 'focal' is defined twice"):
        parts.register("focal")(other)


def test_registering_the_same_function_again_changes_nothing(parts: Catalog[Any]) -> None:
    part = parts.get("focal")

    assert parts.register("focal")(part) is part


def test_a_part_of_a_vertical_that_is_not_there_names_those_that_are() -> None:
    with pytest.raises(UnknownName, match=r"^loss: no vertical is called 'medicin'\. Did you mean 'medical'\?"):
        augmentations.get("medicin.abbreviations", "loss")


def test_a_vertical_is_found_by_its_folder() -> None:
    assert "medical" in domain_names()
    assert import_domain("medical").__name__ == "vertical_sdk.domains.medical"


@pytest.mark.parametrize("name", ["", "os", "../medical", "medical.augment"])
def test_only_a_vertical_is_imported_by_its_name(name: str) -> None:
    with pytest.raises(UnknownName):
        import_domain(name)
