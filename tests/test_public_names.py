"""The public names are those that __all__ says: no more, no less, each with a docstring."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType

import pytest

import vertical_sdk

PUBLIC = {
    "Domain",
    "Evaluation",
    "Example",
    "LabelSpace",
    "Message",
    "Prediction",
    "Recipe",
    "Registry",
    "Run",
    "VerticalError",
    "VerticalModel",
    "domain_names",
    "evaluate",
    "load_domain",
    "load_recipe",
    "recipe_names",
    "train",
    "tune",
}
"""Held here a second time, so that a change of the public names is made on purpose."""


def modules() -> list[str]:
    return sorted(m.name for m in pkgutil.walk_packages(vertical_sdk.__path__, "vertical_sdk."))


def test_the_public_names_are_these() -> None:
    assert set(vertical_sdk.__all__) == PUBLIC
    assert dir(vertical_sdk) == sorted(PUBLIC)


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_every_public_name_can_be_had_and_says_what_it_is(name: str) -> None:
    assert getattr(vertical_sdk, name).__doc__


def test_a_name_that_is_none_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="vertical_sdk"):
        _ = vertical_sdk.no_such_name


def test_the_version_is_that_of_the_installed_package() -> None:
    assert vertical_sdk.__version__ == importlib.import_module("importlib.metadata").version("vertical_sdk")


@pytest.mark.parametrize("name", modules())
def test_a_module_names_only_what_it_has(name: str) -> None:
    module: ModuleType = importlib.import_module(name)

    assert module.__doc__
    assert [n for n in getattr(module, "__all__", []) if not hasattr(module, n)] == []
