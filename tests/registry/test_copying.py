"""Versions that move from one place to another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from vertical_sdk.card import Verdict
from vertical_sdk.errors import CorruptAdapter, RegistryError, RunError
from vertical_sdk.registry import Registry
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
    made = [
        f"file://{tmp_path / str(n)}" if kind == "file" else f"{kind}://{tmp_path.name}-{n}"
        for n, kind in enumerate(request.param)
    ]
    return Registry(made[0]), Registry(made[1])


@pytest.fixture
def source(tmp_path: Path, make_adapter: MakeAdapter, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """Two names; one has three versions, aliases, and one of each kind of tag."""
    registry = Registry(tmp_path / "source")
    fill(registry, make_adapter, monkeypatch)
    return registry


def fill(registry: Registry, make_adapter: MakeAdapter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VERTICAL_USER", "ada")
    for seed in (1, 2):
        registry.publish(make_adapter(seed), tags={"seed": str(seed)}, reason="a try")
    worse = make_adapter(3, verdict=Verdict(passed=False, reasons=("worse",)))
    registry.publish(worse, force=True, reason="to show")
    registry.publish(make_adapter(4, name="legal/clause"))
    registry.set_alias("medical/triage", "production", 2)
    registry.set_alias("medical/triage", "candidate", 3)
    registry.add_signature(registry.resolve("medical/triage@2"), "ab" * 32, "{}")
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


def test_a_copy_is_the_same_registry(
    places: tuple[Registry, Registry], make_adapter: MakeAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = places
    fill(source, make_adapter, monkeypatch)

    account = copy_versions(source, target)

    assert [str(version) for version in account.versions] == [
        "legal/clause@1",
        "medical/triage@1",
        "medical/triage@2",
        "medical/triage@3",
    ]
    assert all(version.new for version in account.versions)
    assert {(a.alias, a.version, a.outcome) for a in account.aliases} == {("production", 2, "set"), ("candidate", 3, "set")}
    for name in ("legal/clause", "medical/triage"):
        assert plain(target, name) == plain(source, name)
    assert target.verify() == []
    with pytest.raises(RegistryError, match="wrong labels"):
        target.resolve("medical/triage@1")


def test_the_log_of_a_copy_says_when_it_was_published_and_from_where_it_came(source: Registry, tmp_path: Path) -> None:
    target = Registry(tmp_path / "target")
    copy_versions(source, target, ["medical/triage"])

    lines = target.history("medical/triage")
    there = source.history("medical/triage")

    assert [(e.action, e.at, e.who, e.after) for e in lines[:3]] == [(e.action, e.at, "ada", e.after) for e in there[:3]]
    assert [e.action for e in lines[:3]] == ["publish", "publish", "publish by force"]
    assert f"copied from {source.location} (medical/triage@3) by bob" in lines[2].why
    assert lines[2].why.endswith(": to show")
    assert {e.who for e in lines[3:]} == {"bob"}
    assert target.store.names() == ["medical/triage"]


def test_a_copy_of_a_copy_does_nothing(source: Registry, tmp_path: Path) -> None:
    target = Registry(tmp_path / "target")
    copy_versions(source, target)
    before = target.history("medical/triage")

    again = copy_versions(source, target)

    assert not any(version.new for version in again.versions)
    assert {alias.outcome for alias in again.aliases} == {"unchanged"}
    assert target.history("medical/triage") == before


def test_a_copy_that_was_killed_is_run_again(source: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = Registry(tmp_path / "target")
    put, left = target.store.put, [2]

    def breaking(*given: object, **named: object) -> object:
        if not left[0]:
            raise RunError("the disk is full")
        left[0] -= 1
        return put(*given, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(target.store, "put", breaking)
    with pytest.raises(RunError):
        copy_versions(source, target)
    assert len(target.versions("medical/triage")) == 1
    left[0] = 9

    account = copy_versions(source, target)

    assert [version.new for version in account.versions] == [False, False, True, True]
    assert plain(target, "medical/triage") == plain(source, "medical/triage")


def test_numbers_and_aliases_follow_where_the_target_has_other_versions(
    source: Registry, make_adapter: MakeAdapter, tmp_path: Path
) -> None:
    target = Registry(tmp_path / "target")
    target.publish(make_adapter(9))
    target.publish(tmp_path / "made-medical-triage-2")
    target.set_alias("medical/triage", "production", 1)

    account = copy_versions(source, target, ["medical/triage"])

    assert [(v.before, v.after, v.new) for v in account.versions] == [(1, 3, True), (2, 2, False), (3, 4, True)]
    assert str(account.versions[0]) == "medical/triage@1 → 3"
    assert target.resolve("medical/triage@candidate").number == 4
    assert target.resolve("medical/triage@production").number == 1
    (conflict,) = account.conflicts
    assert (conflict.alias, conflict.version, conflict.previous) == ("production", 2, 1)
    assert copy_versions(source, target, ["medical/triage"], overwrite_aliases=True).conflicts == ()
    assert target.resolve("medical/triage@production").number == 2


def test_a_version_that_was_signed_or_revoked_since_is_so_in_the_target_too(source: Registry, tmp_path: Path) -> None:
    target = Registry(tmp_path / "target")
    copy_versions(source, target)
    source.revoke("medical/triage@2", "leaked rows")
    source.add_signature(source.resolve("medical/triage@3", check=False), "cd" * 32, "{}")
    target.tag("medical/triage", 3, {"seed": "own"})
    source.tag("medical/triage", 3, {"seed": "3"})

    copy_versions(source, target)

    assert target.resolve("medical/triage@2", check=False).revoked == "leaked rows"
    assert list(target.resolve("medical/triage@3").signatures) == ["cd" * 32]
    assert target.resolve("medical/triage@3").tags == {"seed": "own"}
    assert [e.action for e in target.history("medical/triage")][-3:] == ["tag", "revoke", "tag"]


def test_a_harmed_version_is_not_copied(source: Registry, tmp_path: Path) -> None:
    weights = source.resolve("medical/triage@2").path / "adapter_model.safetensors"
    weights.chmod(0o644)
    weights.write_bytes(b"harm")
    target = Registry(tmp_path / "target")

    with pytest.raises(CorruptAdapter, match=r"medical/triage@2: adapter_model\.safetensors has changed"):
        copy_versions(source, target)
    assert [v.number for v in target.versions("medical/triage")] == [1]
    assert target.verify() == []


def test_a_name_that_the_source_has_not_is_told(source: Registry, tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match=r"no adapter called medical/none\. It has legal/clause, medical/triage"):
        copy_versions(source, Registry(tmp_path / "target"), ["medical/none", "legal/clause"])
    with pytest.raises(RegistryError, match="to itself"):
        copy_versions(source, Registry(source.location))
    assert not (tmp_path / "target").exists()


def test_the_licences_that_a_target_takes_hold_for_copies(source: Registry, tmp_path: Path) -> None:
    target = Registry(tmp_path / "target", Policy(licenses=("mit",)))

    with pytest.raises(RegistryError, match="states no licence"):
        copy_versions(source, target)
    assert target.store.names() == []


def test_a_password_in_an_address_does_not_reach_the_log(source: Registry, tmp_path: Path) -> None:
    from vertical_sdk.registry.copying import copy_from

    target = Registry(tmp_path / "target")
    copy_from(source.store, "https://ada:secret@adapters.example/x", target, ["legal/clause"])

    (line,) = target.history("legal/clause")
    assert "https://adapters.example/x" in line.why
    assert "secret" not in str(line)


def test_a_copy_through_a_server_is_published_by_who_copies_it(
    source: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from servers.http_server import serving

    from vertical_sdk.server.app import create_app
    from vertical_sdk.server.security.tokens import SCOPES, Tokens
    from vertical_sdk.server.settings import ServerSettings

    tokens = Tokens(tmp_path / "tokens.json")
    monkeypatch.setenv("VERTICAL_TOKEN", tokens.add("bob", SCOPES))
    served = Registry(tmp_path / "served")
    app = create_app(served, tokens, ServerSettings(uploads=tmp_path / "uploads"), log=lambda _: None)
    with serving(app) as address:
        there, back = Registry(address), Registry(tmp_path / "back")
        copy_versions(source, there)
        account = copy_versions(there, back)
        there.close()

    assert all(version.new and version.before == version.after for version in account.versions)
    here = [(v.digest, v.aliases, v.revoked, v.signatures, v.forced, v.tags) for v in source.versions("medical/triage")]
    assert [(v.digest, v.aliases, v.revoked, v.signatures, v.forced, v.tags) for v in back.versions("medical/triage")] == here
    assert {e.who for e in served.history("medical/triage")} == {"bob"}
    assert back.verify() == []
