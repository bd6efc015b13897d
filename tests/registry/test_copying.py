"""Copying versions from one registry to another."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from registry.conftest import sign_with_new_key

from vertical_sdk.card import Verdict
from vertical_sdk.errors import CorruptAdapter, RegistryError, RunError
from vertical_sdk.registry import Registry
from vertical_sdk.registry.aliases import rollback
from vertical_sdk.registry.copying import copy_versions
from vertical_sdk.registry.policy import Policy
from vertical_sdk.registry.stores import STORES

MakeAdapter = Callable[..., Path]
PLACES = [("file", "file"), ("file", "memory"), ("memory", "file")]


@pytest.fixture(params=PLACES, ids="-".join)
def places(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Registry, Registry]:
    """Two empty registries."""
    if not {*request.param} <= STORES.keys():
        pytest.skip("there is no such store")
    addresses = [
        f"file://{tmp_path / str(n)}" if kind == "file" else f"{kind}://{tmp_path.name}-{n}"
        for n, kind in enumerate(request.param)
    ]
    return Registry(addresses[0]), Registry(addresses[1])


@pytest.fixture
def source(tmp_path: Path, make_adapter: MakeAdapter, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """A registry with two names; one has three versions, aliases, and one tag of each kind."""
    registry = Registry(tmp_path / "source")
    fill(registry, make_adapter, monkeypatch, tmp_path / "ada")
    return registry


def fill(registry: Registry, make_adapter: MakeAdapter, monkeypatch: pytest.MonkeyPatch, key: Path) -> None:
    monkeypatch.setenv("VERTICAL_USER", "ada")
    for seed in (1, 2):
        registry.publish(make_adapter(seed), tags={"seed": str(seed)}, reason="a try")
    worse = make_adapter(3, verdict=Verdict(passed=False, reasons=("worse",)))
    registry.publish(worse, force=True, reason="to show")
    registry.publish(make_adapter(4, name="legal/clause"))
    registry.set_alias("medical/triage", "production", 2)
    registry.set_alias("medical/triage", "candidate", 3)
    sign_with_new_key(registry, "medical/triage@2", key)
    registry.revoke("medical/triage@1", "wrong labels")
    monkeypatch.setenv("VERTICAL_USER", "bob")


def plain(registry: Registry, name: str) -> list[dict[str, object]]:
    return [
        {
            **version.to_dict(),
            "signatures": dict(version.signatures),
            "files": {p.name: p.read_bytes() for p in version.path.iterdir()},
        }
        for version in registry.versions(name)
    ]


def test_a_copy_equals_its_source(
    places: tuple[Registry, Registry], make_adapter: MakeAdapter, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    source, target = places
    fill(source, make_adapter, monkeypatch, tmp_path / "ada")

    report = copy_versions(source, target)

    assert [str(version) for version in report.versions] == [
        "legal/clause@1",
        "medical/triage@1",
        "medical/triage@2",
        "medical/triage@3",
    ]
    assert all(version.new for version in report.versions)
    assert {(a.alias, a.version, a.outcome) for a in report.aliases} == {("production", 2, "set"), ("candidate", 3, "set")}
    for name in ("legal/clause", "medical/triage"):
        assert plain(target, name) == plain(source, name)
    assert target.verify() == []
    with pytest.raises(RegistryError, match="wrong labels"):
        target.resolve("medical/triage@1")


def test_the_log_of_a_copy_has_the_publish_time_and_the_source(source: Registry, tmp_path: Path) -> None:
    target = Registry(tmp_path / "target")
    copy_versions(source, target, ["medical/triage"])

    lines = target.history("medical/triage")
    originals = source.history("medical/triage")

    assert [(e.action, e.at, e.who, e.after) for e in lines[:3]] == [(e.action, e.at, "ada", e.after) for e in originals[:3]]
    assert [e.action for e in lines[:3]] == ["publish", "publish", "publish by force"]
    assert f"copied from {source.location} (medical/triage@3) by bob" in lines[2].why
    assert lines[2].why.endswith(": to show")
    moves = [(e.action, e.alias, e.at, e.who, e.before, e.after) for e in originals if e.alias]
    assert [(e.action, e.alias, e.at, e.who, e.before, e.after) for e in lines if e.alias] == moves
    assert {e.who for e in lines if e.action == "tag"} <= {"bob"}
    assert target.store.names() == ["medical/triage"]


def moves(registry: Registry, alias: str | None = None) -> list[tuple[object, ...]]:
    """The log of the aliases: action, alias, from, to."""
    events = registry.history("medical/triage")
    return [(e.action, e.alias, e.before, e.after) for e in events if e.alias and alias in {None, e.alias}]


def test_a_copy_has_the_log_of_the_aliases_and_can_roll_back(source: Registry, tmp_path: Path) -> None:
    source.set_alias(
        "medical/triage", "production", 3, force=True, why="better on rare labels", action="promote", evidence='{"p": 0.01}'
    )
    source.delete_alias("medical/triage", "candidate", why="done")
    expected = [
        ("alias", "production", None, 2),
        ("alias", "candidate", None, 3),
        ("promote by force", "production", 2, 3),
        ("delete alias", "candidate", 3, None),
    ]
    assert moves(source) == expected
    target, second = Registry(tmp_path / "target"), Registry(tmp_path / "second")

    copy_versions(source, target)
    copy_versions(target, second)

    for copied in (target, second):
        assert moves(copied) == expected
        promoted = next(e for e in copied.history("medical/triage") if e.action == "promote by force")
        assert promoted.why.endswith(": better on rare labels")
        assert json.loads(promoted.evidence)["p"] == 0.01
        assert copied.resolve("medical/triage@production").aliases == ("production",)
        assert copied.verify() == []
    assert rollback(target, "medical/triage", "production").after == 2


def test_a_second_backup_adds_the_moves_since_the_first(source: Registry, tmp_path: Path) -> None:
    target = Registry(tmp_path / "target")
    copy_versions(source, target)
    source.set_alias("medical/triage", "production", 3, force=True, why="try")
    source.set_alias("medical/triage", "production", 2, action="rollback")
    source.set_alias("medical/triage", "production", 3, force=True, why="try")

    refused = copy_versions(source, target)
    assert [(a.alias, a.outcome) for a in refused.conflicts] == [("production", "conflict")]
    assert moves(target, "production") == [("alias", "production", None, 2)]

    report = copy_versions(source, target, overwrite_aliases=True)
    assert ("production", 3, "moved", 2) in {(a.alias, a.version, a.outcome, a.previous) for a in report.aliases}
    assert moves(target, "production") == moves(source, "production")
    assert len(moves(target, "production")) == 4
    before = target.history("medical/triage")
    copy_versions(source, target, overwrite_aliases=True)
    assert target.history("medical/triage") == before


def test_an_alias_that_was_moved_in_the_target_gets_one_move_of_its_own(source: Registry, tmp_path: Path) -> None:
    target = Registry(tmp_path / "target")
    copy_versions(source, target)
    target.set_alias("medical/triage", "production", 3, force=True, why="here")
    source.set_alias("medical/triage", "production", 3, force=True, why="try")
    source.set_alias("medical/triage", "production", 2)

    copy_versions(source, target, overwrite_aliases=True)

    assert [after for _, _, _, after in moves(target, "production")] == [2, 3, 2]


def test_copying_again_changes_nothing(source: Registry, tmp_path: Path) -> None:
    target = Registry(tmp_path / "target")
    copy_versions(source, target)
    before = target.history("medical/triage")

    second = copy_versions(source, target)

    assert not any(version.new for version in second.versions)
    assert {alias.outcome for alias in second.aliases} == {"unchanged"}
    assert target.history("medical/triage") == before


def test_an_interrupted_copy_can_be_run_again(source: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = Registry(tmp_path / "target")
    put, remaining = target.store.put, [2]

    def fail_after_two(*arguments: object, **options: object) -> object:
        if not remaining[0]:
            raise RunError("the disk is full")
        remaining[0] -= 1
        return put(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(target.store, "put", fail_after_two)
    with pytest.raises(RunError):
        copy_versions(source, target)
    assert len(target.versions("medical/triage")) == 1
    remaining[0] = 9

    report = copy_versions(source, target)

    assert [version.new for version in report.versions] == [False, False, True, True]
    assert plain(target, "medical/triage") == plain(source, "medical/triage")


def test_a_target_with_other_versions_gets_the_next_numbers(
    source: Registry, make_adapter: MakeAdapter, tmp_path: Path
) -> None:
    target = Registry(tmp_path / "target")
    target.publish(make_adapter(9))
    target.publish(tmp_path / "made-medical-triage-2")
    target.set_alias("medical/triage", "production", 1)

    report = copy_versions(source, target, ["medical/triage"])

    assert [(v.before, v.after, v.new) for v in report.versions] == [(1, 3, True), (2, 2, False), (3, 4, True)]
    assert str(report.versions[0]) == "medical/triage@1 → 3"
    assert target.resolve("medical/triage@candidate").number == 4
    assert target.resolve("medical/triage@production").number == 1
    (conflict,) = report.conflicts
    assert (conflict.alias, conflict.version, conflict.previous) == ("production", 2, 1)
    assert copy_versions(source, target, ["medical/triage"], overwrite_aliases=True).conflicts == ()
    assert target.resolve("medical/triage@production").number == 2


def test_a_second_copy_adds_later_signatures_and_revocations(source: Registry, tmp_path: Path) -> None:
    target = Registry(tmp_path / "target")
    copy_versions(source, target)
    source.revoke("medical/triage@2", "leaked rows")
    signer = sign_with_new_key(source, "medical/triage@3", tmp_path / "bob")
    target.tag("medical/triage", 3, {"seed": "own"})
    source.tag("medical/triage", 3, {"seed": "3"})

    copy_versions(source, target)

    assert target.resolve("medical/triage@2", check=False).revoked == "leaked rows"
    assert list(target.resolve("medical/triage@3").signatures) == [signer]
    assert target.resolve("medical/triage@3").tags == {"seed": "own"}
    assert [e.action for e in target.history("medical/triage")][-3:] == ["tag", "revoke", "tag"]


def test_a_damaged_version_is_not_copied(source: Registry, tmp_path: Path) -> None:
    weights = source.resolve("medical/triage@2").path / "adapter_model.safetensors"
    weights.chmod(0o644)
    weights.write_bytes(b"damaged")
    target = Registry(tmp_path / "target")

    with pytest.raises(CorruptAdapter, match=r"medical/triage@2: adapter_model\.safetensors has changed"):
        copy_versions(source, target)
    assert [v.number for v in target.versions("medical/triage")] == [1]
    assert target.verify() == []


def test_an_unknown_name_is_refused_with_the_known_ones(source: Registry, tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match=r"no adapter called medical/none\. It has legal/clause, medical/triage"):
        copy_versions(source, Registry(tmp_path / "target"), ["medical/none", "legal/clause"])
    with pytest.raises(RegistryError, match="to itself"):
        copy_versions(source, Registry(source.location))
    assert not (tmp_path / "target").exists()


def test_the_licence_policy_of_the_target_applies_to_copies(source: Registry, tmp_path: Path) -> None:
    target = Registry(tmp_path / "target", Policy(licenses=("mit",)))

    with pytest.raises(RegistryError, match="states no licence"):
        copy_versions(source, target)
    assert target.store.names() == []


def test_a_password_in_an_address_is_not_logged(source: Registry, tmp_path: Path) -> None:
    from vertical_sdk.registry.copying import copy_from

    target = Registry(tmp_path / "target")
    copy_from(source.store, "https://ada:secret@adapters.example/x", target, ["legal/clause"])

    (line,) = target.history("legal/clause")
    assert "https://adapters.example/x" in line.why
    assert "secret" not in str(line)


def test_a_copy_through_a_server_is_published_by_the_user_of_the_token(
    source: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from servers.http_server import serving

    from vertical_sdk.server.registry_app import create_registry_app
    from vertical_sdk.server.security.tokens import SCOPES, Tokens
    from vertical_sdk.server.settings import ServerSettings

    tokens = Tokens(tmp_path / "tokens.json")
    monkeypatch.setenv("VERTICAL_TOKEN", tokens.add("bob", SCOPES))
    served = Registry(tmp_path / "served")
    app = create_registry_app(served, tokens, ServerSettings(uploads=tmp_path / "uploads"), log=lambda _: None)
    with serving(app) as address:
        remote, back = Registry(address), Registry(tmp_path / "back")
        source.set_alias("medical/triage", "production", 3, action="promote", force=True, why="try")
        source.set_alias("medical/triage", "production", 2, action="rollback")
        source.delete_alias("medical/triage", "candidate")
        copy_versions(source, remote)
        assert moves(remote) == moves(source)
        source.set_alias("medical/triage", "production", 3, force=True, why="try")
        copy_versions(source, remote, overwrite_aliases=True)
        report = copy_versions(remote, back)
        assert moves(back) == moves(source)
        assert rollback(remote, "medical/triage", "production").after == 2
        assert moves(remote)[-1] == ("rollback", "production", 3, 2)
        remote.set_alias("medical/triage", "production", 3, force=True, why="back")
        remote.close()

    assert all(version.new and version.before == version.after for version in report.versions)
    expected = [(v.digest, v.aliases, v.revoked, v.signatures, v.forced, v.tags) for v in source.versions("medical/triage")]
    assert [
        (v.digest, v.aliases, v.revoked, v.signatures, v.forced, v.tags) for v in back.versions("medical/triage")
    ] == expected
    assert {e.who for e in served.history("medical/triage")} == {"bob"}
    assert back.verify() == []
