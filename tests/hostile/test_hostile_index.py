"""A registry's folder that somebody edited: rows, the log and files. `verify` names every change, and goes on past it."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path

import pytest
from registry.conftest import write_adapter

from vertical_sdk.errors import RegistryError
from vertical_sdk.registry import Registry
from vertical_sdk.registry.copying import copy_versions
from vertical_sdk.registry.index import _add_seal
from vertical_sdk.registry.policy import Policy

NAME = "medical/triage"


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """Three versions; the first is revoked, the second has a tag and an alias."""
    registry = Registry(tmp_path / "registry", Policy())
    for seed in (1, 2, 3):
        registry.publish(write_adapter(tmp_path / f"adapter-{seed}", seed), tags={"stage": "pilot"} if seed == 2 else None)
    registry.revoke(f"{NAME}@1", "wrong labels")
    registry.set_alias(NAME, "production", 2)
    return registry


def edit(registry: Registry, *statements: str, values: tuple[object, ...] = ()) -> None:
    """Change the index as a user with an SQLite editor would."""
    registry.close()
    with contextlib.closing(sqlite3.connect(Path(registry.location, "index.sqlite"), isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement, values)


def test_an_untouched_registry_has_no_problems(registry: Registry, tmp_path: Path) -> None:
    registry.tag(NAME, 2, {"stage": None, "team": "a"})
    copy = Registry(tmp_path / "copy", Policy())
    copy_versions(registry, copy)

    assert registry.verify() == copy.verify() == []
    with pytest.raises(RegistryError, match=r"was revoked: wrong labels"):
        copy.resolve(f"{NAME}@1")


@pytest.mark.parametrize("copied", [False, True])
def test_a_revocation_whose_row_was_deleted_still_holds(copied: bool, registry: Registry, tmp_path: Path) -> None:
    if copied:
        target = Registry(tmp_path / "copy", Policy())
        copy_versions(registry, target)
        registry = target
    edit(registry, "DELETE FROM tags WHERE key = 'vertical.revoked'")

    with pytest.raises(RegistryError, match=r"medical/triage@1 was revoked: wrong labels"):
        registry.resolve(f"{NAME}@1")
    assert registry.resolve(f"{NAME}@1", check=False).revoked == registry.versions(NAME)[0].revoked == "wrong labels"
    assert f"{NAME}@1: its tag vertical.revoked is missing, but the log has it" in registry.verify()


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        ("UPDATE facts SET value = 'mit' WHERE key = 'task'", "the facts or metrics of medical/triage@1 were changed by hand"),
        (
            "DELETE FROM facts WHERE key = 'gate' AND number = 3",
            "the facts or metrics of medical/triage@3 were changed by hand",
        ),
        ("UPDATE metrics SET value = 0.99 WHERE number = 2", "the facts or metrics of medical/triage@2 were changed by hand"),
        ("INSERT INTO metrics VALUES ('f1', 'medical/triage', 9, 1)", "the facts or metrics of medical/triage@9"),
        ("DELETE FROM tags WHERE key = 'stage'", "medical/triage@2: its tag stage is missing, but the log has it"),
        ("DELETE FROM aliases", "medical/triage@production points at version none, but the log says 2"),
    ],
)
def test_an_edited_row_is_a_problem(statement: str, problem: str, registry: Registry) -> None:
    edit(registry, statement)

    assert any(problem in line for line in registry.verify())


def test_a_tag_with_a_right_seal_that_the_log_does_not_have_is_a_problem(registry: Registry) -> None:
    edit(registry, "INSERT INTO tags VALUES (?, ?, ?, ?, ?)", values=_add_seal(NAME, 3, "stage", "production"))
    assert registry.verify() == [f"{NAME}@3: its tag stage is not in the log"]
    edit(registry, "DELETE FROM tags WHERE number = 2")
    edit(registry, "INSERT INTO tags VALUES (?, ?, ?, ?, ?)", values=_add_seal(NAME, 2, "stage", "production"))
    assert f"{NAME}@2: its tag stage differs from the log" in registry.verify()


def test_a_removed_end_of_the_log_is_a_problem(registry: Registry) -> None:
    edit(registry, "DROP TRIGGER history_remains", "DELETE FROM history WHERE id > 3")

    problems = registry.verify()

    assert "index.sqlite: the end of the log was removed: 2 lines" in problems
    assert f"{NAME}@1: its tag vertical.revoked is not in the log" in problems
    assert f"{NAME}@production points at version 2, but the log says none" in problems


def test_metadata_that_differ_from_the_card_are_a_problem(registry: Registry) -> None:
    """The row was changed together with its seal and its tables."""
    edit(registry, "DROP TRIGGER versions_stay")
    index = registry.store.index  # type: ignore[attr-defined]
    ((*row, _),) = index._read("SELECT name, number, digest, created, who, record, seal FROM versions WHERE number = 3")
    changed = _add_seal(*row[:5], row[5].replace("0.91", "0.99"))
    edit(registry, "UPDATE versions SET record = ?, seal = ? WHERE number = 3", values=changed[5:])
    edit(registry, "UPDATE metrics SET value = 0.99 WHERE number = 3")

    assert registry.verify() == [f"{NAME}@3: its metric macro_f1 differs from its card"]


def test_verify_lists_every_problem_and_goes_on_past_what_cannot_be_read(registry: Registry) -> None:
    """A changed row, a folder in place of a manifest, a link that leads to itself, a folder in place of a file."""
    digests = {number: registry.resolve(f"{NAME}@{number}", check=False).digest for number in (1, 2, 3)}
    root = Path(registry.location)
    edit(registry, "DROP TRIGGER versions_stay", "UPDATE versions SET who = 'eve' WHERE number = 1")
    manifest = root / "objects" / digests[2][:2] / digests[2]
    manifest.unlink()
    manifest.mkdir()
    tree = root / "trees" / digests[3]
    (tree / "tokenizer.json").unlink()
    (tree / "tokenizer.json").mkdir()
    (tree / "README.md").unlink()
    (tree / "README.md").symlink_to("README.md")
    registry = Registry(root, Policy())

    problems = registry.verify()

    text = "\n".join(problems)
    assert "the row of medical/triage@1 was changed by hand" in text
    assert "medical/triage@2: " in text
    assert "the manifest cannot be read (Is a directory). Check its permissions." in text
    assert "medical/triage@3: tokenizer.json is missing" in text
    assert "medical/triage@3: README.md is not a regular file" in text


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_verify_goes_on_past_folders_that_this_user_may_not_read(registry: Registry) -> None:
    digest = registry.resolve(f"{NAME}@2").digest
    tree = Path(registry.location, "trees", digest)
    tree.chmod(0)
    try:
        problems = registry.verify()
    finally:
        tree.chmod(0o755)

    assert any(f"{NAME}@2: its folder cannot be read (Permission denied" in line for line in problems)
