"""Verticals: which are installed, and their descriptions."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vertical_sdk.catalog import ENTRY_POINTS, domain_names, import_domain, package_folder
from vertical_sdk.errors import VerticalError

__all__ = ["Domain", "domain_names", "load_domain", "recipe_folders"]


@dataclass(frozen=True)
class Domain:
    """The description of a vertical. Its parts are found by file name (see `vertical_sdk.catalog`).

    name       the folder's name, which is the prefix of its parts' names
    summary    one sentence
    languages  BCP 47 codes of the languages that its recipes support
    """

    name: str
    summary: str
    languages: Sequence[str] = ("en",)


def load_domain(name: str) -> Domain:
    """Load the `DOMAIN` of a vertical's package.

    Raises UnknownName.
    """
    package = import_domain(name)
    domain = getattr(package, "DOMAIN", None)
    if not isinstance(domain, Domain) or domain.name != name:
        raise VerticalError(f"{package.__name__} must define DOMAIN = Domain(name={name!r}, ...).")
    return domain


def recipe_folders() -> list[Path]:
    """List the folders with recipes `<vertical>/<task>.yaml`: our own, and `recipes/` in each package that adds a vertical."""
    folders = [package_folder("vertical_sdk.recipes")]
    for entry in importlib.metadata.entry_points(group=ENTRY_POINTS):
        package = package_folder(entry.module)
        folders.append(package / "recipes" if package else None)
    return [folder for folder in folders if folder and folder.is_dir()]
