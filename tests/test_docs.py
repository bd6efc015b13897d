"""Check the documents against the code: commands and options exist, every recipe key is described, links lead to files."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from vertical_sdk import errors
from vertical_sdk.checking import check_recipe
from vertical_sdk.cli.app import app
from vertical_sdk.recipe import load_recipe, recipe_schema

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "domains").rglob("*.md")])
SHELL = re.compile(r"```(?:bash|console|sh|shell|text)\n(.*?)```", re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)(?:#[^)]*)?\)")


def commands(page: Path) -> Iterator[str]:
    """List every call of `vertical` in the shell blocks of a page, with continued lines joined."""
    for block in SHELL.findall(page.read_text(encoding="utf-8")):
        for line in block.replace("\\\n", " ").splitlines():
            for call in re.split(r"\||&&|;", line.split("#")[0]):
                words = call.strip().removeprefix("$ ").strip()
                if words.startswith("vertical ") or words == "vertical":
                    yield words


def verbs(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], set[str]]]:
    """List every command with its options."""
    yield path, {name for parameter in command.params for name in parameter.opts} | {"--help", "-h", "--debug"}
    for name, below in getattr(command, "commands", {}).items():
        yield from verbs(below, (*path, name))


VERBS = dict(verbs(typer.main.get_command(app)))


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_every_command_in_a_page_exists_with_its_options(page: Path) -> None:
    for command in commands(page):
        words = shlex.split(command)[1:]
        verb: tuple[str, ...] = ()
        while words and (*verb, words[0]) in VERBS:
            verb = (*verb, words.pop(0))
        options = {word.split("=")[0] for word in words if word.startswith("--") and word != "--"}
        assert verb or options <= VERBS[()], f"{page.name}: {command}"
        assert options <= VERBS[verb], f"{page.name}: {command}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_links_inside_the_project_lead_to_files(page: Path) -> None:
    inside = [
        link for link in LINK.findall(page.read_text(encoding="utf-8")) if "://" not in link and not link.startswith("mailto:")
    ]

    assert [link for link in inside if not (page.parent / link).exists()] == []


def test_cli_page_lists_every_command_and_exit_code() -> None:
    text = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")

    assert [verb for verb in VERBS if verb and f"vertical {' '.join(verb)}" not in text] == []
    tree = {
        value.exit_code: name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, Exception)
    }
    assert [code for code in tree if f"\n| {code} |" not in text] == []


def test_recipes_page_describes_every_key() -> None:
    text = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    schema = recipe_schema()
    keys = set(schema["properties"])
    for section in ("Data", "Limits", "Head", "Series", "Image", "Prompt", "Evaluate", "Gate"):
        keys |= set(schema["$defs"][section]["properties"])

    assert sorted(key for key in keys if f"`{key}`" not in text and f"{key}:" not in text) == []


def test_recipes_in_the_recipes_page_pass_the_check(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    blocks = [
        block
        for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
        if re.search(r"^(name|extends):", block, re.MULTILINE)
    ]
    assert blocks

    for number, block in enumerate(blocks):
        path = tmp_path / f"{number}.yaml"
        path.write_text(block, encoding="utf-8")
        check_recipe(load_recipe(path))
