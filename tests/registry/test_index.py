"""The SQLite index: search among many versions, and detection of changes by hand."""

from __future__ import annotations

import hashlib
import random
import sqlite3
from pathlib import Path

import pytest

from vertical_sdk.errors import RegistryError
from vertical_sdk.registry.index import Index
from vertical_sdk.registry.query import parse_condition
from vertical_sdk.registry.references import Reference
from vertical_sdk.registry.store import Event, matches


def event(name: str, action: str = "publish", alias: str | None = None) -> Event:
    return Event(at="2026-01-01T00:00:00+00:00", who="ada", name=name, action=action, alias=alias)


@pytest.fixture
def index(tmp_path: Path) -> Index:
    """240 versions of 60 names, with random facts, metrics and tags."""
    index = Index(tmp_path / "index.sqlite")
    rng = random.Random(0)
    with index.writing():
        for i in range(60):
            name = f"{'medical' if i % 3 else 'legal'}/task-{i:02}"
            for k in range(4):
                facts = {
                    "domain": [name.partition("/")[0]],
                    "license": rng.sample(["mit", "cc0-1.0", "odbl-1.0"], rng.randrange(3)),
                }
                metrics = {"macro_f1": rng.random(), "ece": rng.random()} if rng.random() < 0.8 else {}
                tags = {"stage": rng.choice(["pilot", "live"])} if rng.random() < 0.5 else {}
                digest = hashlib.sha256(f"{i}-{k}".encode()).hexdigest()
                index.add(name, digest, {"facts": facts, "metrics": metrics}, tags, event(name))
    return index


@pytest.mark.parametrize("rare", [3000, 0], ids=["one by one", "merged"])
@pytest.mark.parametrize(
    "texts",
    [
        (),
        ("domain=medical",),
        ("macro_f1>0.7",),
        ("macro_f1>0.2", "ece<=0.5"),
        ("license=mit", "domain=legal", "macro_f1>=0.1"),
        ("tag.stage=pilot", "license=cc0-1.0"),
        ("name=medical/task-01",),
        ("ece!=0.5", "tag.stage=live"),
        ("domain=traffic", "macro_f1>0"),
    ],
)
def test_search_equals_a_scan_of_all_versions(
    index: Index, texts: tuple[str, ...], rare: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vertical_sdk.registry.index.RARE", rare)
    conditions = [parse_condition(text) for text in texts]
    everything = [entry for name in index.names() for entry in index.versions(name)]
    expected = [(e.name, e.number) for e in everything if matches(e, conditions)]

    pages, after = [], None
    while page := index.search(conditions, after=after, limit=7):
        pages += [(e.name, e.number) for e in page]
        after = pages[-1]

    assert pages == expected
    assert [(e.name, e.number) for e in index.search(conditions)] == expected


def test_names_and_newest_versions_are_paged(index: Index) -> None:
    index.move_alias("legal/task-03", "production", 2, None, event("legal/task-03", "alias", "production"))

    names = index.names("legal/")
    first = index.newest("legal/", limit=2)
    second = index.newest("legal/", after=first[-1][0].name, limit=2)

    assert len(names) == 20
    assert index.names("legal/", after=names[4], limit=3) == names[5:8]
    assert [(e.name, e.number) for e, _ in first + second] == [(name, 4) for name in names[:4]]
    assert [aliases for _, aliases in first] == [{}, {"production": 2}]
    assert index.newest("legal/task-0\x7f") == []


def test_versions_are_paged_from_the_newest_down(index: Index) -> None:
    numbers = [
        [e.number for e in index.versions("legal/task-00", before=before, limit=limit)]
        for before, limit in [(None, 2), (3, 2), (1, 2), (None, None), (3, None)]
    ]

    assert numbers == [[3, 4], [1, 2], [], [1, 2, 3, 4], [1, 2]]


def overwrite(index: Index, *statements: str) -> None:
    """Change the file as a user with an SQLite editor would."""
    index.close()
    connection = sqlite3.connect(index.path, isolation_level=None)
    for statement in statements:
        connection.execute(statement)
    connection.close()


def test_a_version_with_a_changed_row_is_refused(index: Index) -> None:
    overwrite(index, "DROP TRIGGER versions_stay", "UPDATE versions SET record = replace(record, 'medical', 'general')")

    with pytest.raises(RegistryError, match=r"the row of medical/task-01@4 was changed by hand"):
        index.find(Reference("medical/task-01"))
    assert len(index.problems()) == 160


def test_an_alias_moved_by_hand_is_refused(index: Index) -> None:
    index.move_alias("legal/task-00", "production", 2, None, event("legal/task-00", "alias", "production"))
    overwrite(index, "UPDATE aliases SET number = 1")

    with pytest.raises(RegistryError, match=r"the alias legal/task-00@production was changed by hand"):
        index.find(Reference("legal/task-00", alias="production"))
    assert index.problems() == ["legal/task-00@production points at version 1, but the log says 2"]


@pytest.mark.parametrize(
    "statement",
    ["UPDATE history SET who = 'eve' WHERE id = 17", "DELETE FROM history WHERE id = 17"],
)
def test_a_changed_log_is_detected(index: Index, statement: str) -> None:
    assert index.problems() == []
    overwrite(index, "DROP TRIGGER history_stays", "DROP TRIGGER history_remains", statement)

    assert "the log was changed at 2026-01-01" in index.problems()[0]


def test_a_registry_of_an_older_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "index.sqlite"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 1")
    connection.close()

    with pytest.raises(
        RegistryError, match=r"has format 1; this version of vertical_sdk reads format 2\. Publish its adapters again"
    ):
        Index(path).names()
