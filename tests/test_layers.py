"""Who may import whom: downwards only, and nobody a vertical by its name. Read from the source, without running it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ORDER = (
    "errors",
    "types",
    "paths",
    "tables",
    "catalog",
    "domain",
    "overrides",
    "yaml_file",
    "schema_errors",
    "card",
    "model_card",
    "evaluation_record",
    "record_index",
    "outputs",
    "recipe",
    "sources",
    "registry",
    "metrics",
    "losses",
    "calibration",
    "tasks",
    "data",
    "bases",
    "kernels",
    "families",
    "baselines",
    "training_arguments",
    "checking",
    "adapters",
    "engines",
    "inference",
    "evaluation",
    "training",
    "promotion",
    "server",
    "cli",
)
"""From the lowest to the highest. A module imports only modules below its own, and none of its own rank elsewhere."""
RANK = {name: rank for rank, name in enumerate(ORDER)}
FOR_DOMAINS = {"catalog", "data", "domain", "errors", "losses", "metrics", "outputs", "tasks", "types"}


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Every module of ours that a file imports, without "vertical_sdk." in front, and whether inside a function."""
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    inside = {id(n) for f in ast.walk(tree) if isinstance(f, ast.FunctionDef | ast.AsyncFunctionDef) for n in ast.walk(f)}
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module == "vertical_sdk":
            names = [f"vertical_sdk.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [node.module or ""]
        for name in names:
            if name.startswith("vertical_sdk."):
                yield name.removeprefix("vertical_sdk."), id(node) in inside


def sources(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def test_every_module_has_its_layer() -> None:
    modules = {p.stem for p in (ROOT / "vertical_sdk").iterdir() if p.suffix == ".py" or (p.is_dir() and any(p.rglob("*.py")))}

    assert modules - {"__init__"} <= set(RANK)


@pytest.mark.parametrize("path", sources("vertical_sdk"), ids=lambda p: p.relative_to(ROOT).as_posix())
def test_imports_go_downwards(path: Path) -> None:
    own = path.relative_to(ROOT / "vertical_sdk").with_suffix("").parts[0]
    if own == "__init__":
        pytest.skip("the package itself names all, and loads them when they are used")

    upwards = {name for name, _ in imports(path) if RANK.get(name.partition(".")[0], -1) > RANK[own]}

    assert upwards == set()


@pytest.mark.parametrize("path", sources("vertical_sdk"), ids=lambda p: p.relative_to(ROOT).as_posix())
def test_the_library_knows_no_vertical_by_name(path: Path) -> None:
    assert [name for name, _ in imports(path) if name.split(".")[0] in {"domains", "recipes"}] == []


@pytest.mark.parametrize("path", sources("domains"), ids=lambda p: p.relative_to(ROOT).as_posix())
def test_a_vertical_uses_the_parts_of_the_library_that_are_for_it(path: Path) -> None:
    assert {name.partition(".")[0] for name, _ in imports(path)} <= FOR_DOMAINS


@pytest.mark.parametrize("path", sources("domains"), ids=lambda p: p.relative_to(ROOT).as_posix())
def test_a_vertical_reaches_no_further_than_its_own_folder(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    depth = len(path.relative_to(ROOT / "domains").parts) - 1

    assert all(node.level <= depth for node in ast.walk(tree) if isinstance(node, ast.ImportFrom))
