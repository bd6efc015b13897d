"""The import order: modules import only lower modules, and none imports a vertical. Read from the source, without running it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ORDER = (
    "errors",
    "json_text",
    "types",
    "cells",
    "paths",
    "measurements",
    "tensors",
    "trees",
    "tables",
    "catalog",
    "domain",
    "overrides",
    "yaml_file",
    "schema_errors",
    "ranges",
    "card",
    "peft_config",
    "model_card",
    "evaluation_record",
    "report_rows",
    "record_index",
    "outputs",
    "recipe",
    "members",
    "sources",
    "bases",
    "metrics",
    "losses",
    "calibration",
    "tasks",
    "alternatives",
    "gate",
    "registry",
    "data",
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
    "tuning",
    "promotion",
    "serving",
    "server",
    "cli",
    "__main__",
)
"""From the lowest to the highest. A module imports only modules below it."""
RANK = {name: rank for rank, name in enumerate(ORDER)}
FOR_DOMAINS = {"catalog", "cells", "data", "domain", "errors", "losses", "metrics", "outputs", "tasks", "types"}


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Every module of the library that a file imports, without the prefix "vertical_sdk.", and whether inside a function."""
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


def test_every_module_has_a_layer() -> None:
    modules = {p.stem for p in (ROOT / "vertical_sdk").iterdir() if p.suffix == ".py" or (p.is_dir() and any(p.rglob("*.py")))}

    assert modules - {"__init__"} <= set(RANK)


@pytest.mark.parametrize("path", sources("vertical_sdk"), ids=lambda p: p.relative_to(ROOT).as_posix())
def test_imports_go_downwards(path: Path) -> None:
    own = path.relative_to(ROOT / "vertical_sdk").with_suffix("").parts[0]
    if own == "__init__":
        pytest.skip("the package itself names the public classes, and loads them on first use")

    upwards = {name for name, _ in imports(path) if RANK.get(name.partition(".")[0], -1) > RANK[own]}

    assert upwards == set()


@pytest.mark.parametrize("path", sources("vertical_sdk"), ids=lambda p: p.relative_to(ROOT).as_posix())
def test_the_library_imports_no_vertical(path: Path) -> None:
    assert [name for name, _ in imports(path) if name.split(".")[0] in {"domains", "recipes"}] == []


@pytest.mark.parametrize("path", sources("domains"), ids=lambda p: p.relative_to(ROOT).as_posix())
def test_a_vertical_imports_only_the_modules_for_verticals(path: Path) -> None:
    assert {name.partition(".")[0] for name, _ in imports(path)} <= FOR_DOMAINS


@pytest.mark.parametrize("path", sources("domains"), ids=lambda p: p.relative_to(ROOT).as_posix())
def test_a_vertical_imports_nothing_outside_its_folder(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    depth = len(path.relative_to(ROOT / "domains").parts) - 1

    assert all(node.level <= depth for node in ast.walk(tree) if isinstance(node, ast.ImportFrom))


def file_graph() -> dict[str, set[str]]:
    """Module → the modules that its file imports, at the top, in functions and for type checking alike.

    `vertical_sdk/__init__.py` is left out: it names the public classes and loads them on first use.
    """
    modules = {}
    for path in sources("vertical_sdk"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        modules[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    del modules["vertical_sdk"]
    graph: dict[str, set[str]] = {}
    for module, path in modules.items():
        targets: set[str] = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
            if isinstance(node, ast.Import):
                targets |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = {f"{node.module}.{alias.name}" for alias in node.names}
                targets |= {name if name in modules else str(node.module) for name in names}
        graph[module] = (targets & modules.keys()) - {module}
    return graph


def find_circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """List the groups of modules that import each other, directly or through others."""

    def reach(start: str) -> set[str]:
        reached: set[str] = set()
        stack = [start]
        while stack:
            new = graph[stack.pop()] - reached
            reached |= new
            stack += new
        return reached

    reached = {module: reach(module) for module in graph}
    circles = {frozenset(m for m in reached[module] if module in reached[m]) for module in graph if module in reached[module]}
    return sorted(sorted(circle) for circle in circles)


def test_find_circles_lists_modules_that_import_each_other() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a", "e"}, "e": set()}

    assert find_circles(graph) == [["a", "b", "c"]]


def test_no_files_import_each_other_in_a_circle() -> None:
    assert find_circles(file_graph()) == []
