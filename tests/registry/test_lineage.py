from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vertical_sdk.card import Parent, SourceRecord, Verdict, read_card, write_card
from vertical_sdk.errors import CorruptAdapter, RegistryError
from vertical_sdk.record_index import write_record_index
from vertical_sdk.registry import Registry, Version
from vertical_sdk.registry.lineage import diff, find_data_uses, find_record_uses, lineage
from vertical_sdk.types import Example

MakeAdapter = Callable[..., Path]
RAW, OTHER = "ab" * 32, "cd" * 32


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "registry")


def changed(adapter: Path, **facts: Any) -> Path:
    """The adapter with other things in its card."""
    write_card(adapter, read_card(adapter).model_copy(update=facts))
    return adapter


def source(sha256: str, name: str = "pypi:notes==1.0") -> tuple[SourceRecord, ...]:
    return (SourceRecord(source=name, sha256=sha256, license="CC-BY-4.0"),)


def parent_of(version: Version) -> Parent:
    return Parent(reference=str(version), weights=version.facts["weights"][0], version=version.digest)


def family(registry: Registry, make: MakeAdapter) -> list[Version]:
    """Three versions: the second goes on from the first, the third from the second, under another name."""
    one = registry.publish(changed(make(1), sources=source(RAW)))
    two = registry.publish(changed(make(2), sources=source(OTHER), parent=parent_of(one)))
    three = registry.publish(changed(make(3, name="medical/other"), parent=parent_of(two)))
    return [one, two, three]


def test_a_lineage_says_what_a_version_was_made_of_and_by_whom(
    registry: Registry, make_adapter: MakeAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VERTICAL_USER", "ada")
    adapter = changed(
        make_adapter(verdict=Verdict(passed=False, reasons=("worse",))), sources=source(RAW), versions={"torch": "2.9"}
    )
    version = registry.publish(adapter, force=True, reason="a trial")
    registry.set_alias(version.name, "candidate", 1)
    registry.revoke(str(version), "a wrong label")

    found = lineage(registry, "medical/triage@1")

    assert (found.reference, found.digest, found.who) == ("medical/triage@1", version.digest, "ada")
    assert (found.base["name"], found.base["weights"]) == ("tiny", "0" * 64)
    assert found.recipe == {"name": "medical/triage", "digest": "2" * 64}
    assert found.sources == [{"source": "pypi:notes==1.0", "sha256": RAW, "license": "CC-BY-4.0"}]
    assert found.versions == {"torch": "2.9"}
    assert found.metrics == {"adapter": {"macro_f1": {"value": 0.91, "low": 0.88, "high": 0.94}}}
    assert (found.gate, found.forced, found.reason, found.revoked) == ("failed", True, "a trial", "a wrong label")
    assert found.verdict == {"passed": False, "reasons": ["worse"]}
    assert (found.parents, found.children, found.signed_by, found.aliases) == ([], [], [], ["candidate"])
    assert json.loads(json.dumps(found.to_dict()))["reference"] == "medical/triage@1"


def test_parents_are_followed_up_and_children_are_named(registry: Registry, make_adapter: MakeAdapter) -> None:
    one, two, three = family(registry, make_adapter)

    assert [p.version for p in lineage(registry, str(three)).parents] == [str(two), str(one)]
    assert lineage(registry, str(one)).children == [str(two)]
    assert lineage(registry, str(three)).children == []


def test_a_parent_that_is_not_here_is_named_as_its_child_knew_it(registry: Registry, make_adapter: MakeAdapter) -> None:
    away = Parent(reference="medical/elsewhere@4", weights="ef" * 32)
    registry.publish(changed(make_adapter(1), parent=away))

    (found,) = lineage(registry, "medical/triage").parents

    assert (found.given, found.weights, found.version) == ("medical/elsewhere@4", "ef" * 32, None)


def test_a_changed_card_tells_nothing(registry: Registry, make_adapter: MakeAdapter) -> None:
    version = registry.publish(make_adapter(1))
    card = version.path / "vertical.json"
    card.chmod(0o644)
    card.write_text(card.read_text().replace("0.91", "0.99"))

    with pytest.raises(CorruptAdapter, match=r"vertical\.json has changed"):
        lineage(registry, "medical/triage")


def test_two_versions_are_set_side_by_side(registry: Registry, make_adapter: MakeAdapter) -> None:
    recipe = {"name": "medical/triage", "train": {"seed": 0, "learning_rate": 1e-3}, "data": {"clean": [{"use": "normalize"}]}}
    other = {"name": "medical/triage", "train": {"seed": 1, "learning_rate": 1e-3}, "data": {"clean": []}}
    metrics = {"systems": {"adapter": {"metrics": {"macro_f1": {"value": 0.95, "low": 0.9, "high": 0.99}}}}}
    registry.publish(changed(make_adapter(1), recipe=recipe, sources=source(RAW)))
    registry.publish(changed(make_adapter(2), recipe=other, sources=source(OTHER), metrics=metrics))

    found = diff(registry, "medical/triage@1", "medical/triage@2")

    assert {key: (side.one, side.other) for key, side in found.recipe.items()} == {
        "train.seed": (0, 1),
        "data.clean": ("(not set)", []),
        "data.clean.0.use": ("normalize", "(not set)"),
    }
    assert (found.sources["pypi:notes==1.0"].one, found.sources["pypi:notes==1.0"].other) == (RAW, OTHER)
    assert found.metrics["macro_f1"].difference == pytest.approx(0.04)
    assert not found.same_rows
    assert found.files == {"adapter_model.safetensors": "changed", "vertical.json": "changed"}
    assert (found.base, found.versions) == ({}, {})


def test_a_version_does_not_differ_from_itself(registry: Registry, make_adapter: MakeAdapter) -> None:
    registry.publish(make_adapter(1))

    found = diff(registry, "medical/triage", "medical/triage@1")

    assert (found.base, found.recipe, found.sources, found.files, found.same_rows) == ({}, {}, {}, {}, True)
    assert found.metrics["macro_f1"].difference == 0


@pytest.mark.parametrize("digits", [RAW, RAW[:8], f"sha256:{RAW}", RAW.upper()])
def test_who_used_a_source_is_found_with_those_that_went_on(registry: Registry, make_adapter: MakeAdapter, digits: str) -> None:
    one, two, three = family(registry, make_adapter)

    found = find_data_uses(registry, digits)

    assert {(str(u.version), u.how, u.through) for u in found} == {
        (str(one), ("source",), None),
        (str(two), ("source",), str(one)),
        (str(three), ("source",), str(one)),
    }
    assert [str(u.version) for u in found] == ["medical/other@1", "medical/triage@1", "medical/triage@2"]


def test_a_source_that_nobody_used_is_not_found(registry: Registry, make_adapter: MakeAdapter) -> None:
    family(registry, make_adapter)

    assert find_data_uses(registry, "12" * 32) == []
    for wrong in ("", "abc", "pypi:notes", "zz" * 32):
        with pytest.raises(RegistryError, match="is not a source's digest"):
            find_data_uses(registry, wrong)


def test_who_saw_a_record_is_found_by_its_id_and_by_its_group(registry: Registry, make_adapter: MakeAdapter) -> None:
    rows = [Example("1", record_id="visit-1", group="ada"), Example("2", record_id="visit-2", group="bob")]
    for seed, parts in ((1, {"train": rows[:1], "test": rows[1:]}), (2, {"validation": rows[:1]})):
        adapter = make_adapter(seed)
        write_record_index(adapter, parts)  # type: ignore[arg-type]
        registry.publish(changed(adapter))
    registry.publish(changed(make_adapter(3), parent=parent_of(registry.resolve("medical/triage@2"))))
    registry.publish(make_adapter(4))

    def asked(name: str, *kind: Any) -> list[tuple[int, tuple[str, ...], str | None]]:
        return [(u.version.number, u.how, u.through) for u in find_record_uses(registry, name, *kind)]

    assert asked("visit-1") == [(1, ("train",), None), (2, ("validation",), None), (3, ("validation",), "medical/triage@2")]
    assert asked("bob", "group") == [(1, ("test",), None)]
    assert asked("bob", "id") == []
    assert asked("visit-3") == []
    assert lineage(registry, "medical/triage@1").remembers == {"train": {"id": 1, "group": 1}, "test": {"id": 1, "group": 1}}
    with pytest.raises(RegistryError, match="empty id"):
        find_record_uses(registry, " ")


def test_an_index_that_was_changed_is_told_and_not_believed(registry: Registry, make_adapter: MakeAdapter) -> None:
    adapter = make_adapter(1)
    write_record_index(adapter, {"train": [Example("1", record_id="visit-1")]})
    version = registry.publish(changed(adapter))
    index = version.path / "seen.safetensors"
    index.chmod(0o644)
    write_record_index(version.path, {"train": [Example("1", record_id="visit-2")]})

    with pytest.raises(CorruptAdapter, match=r"seen\.safetensors has changed"):
        find_record_uses(registry, "visit-1")


def test_children_and_weights_can_be_searched(registry: Registry, make_adapter: MakeAdapter) -> None:
    one, two, _ = family(registry, make_adapter)

    assert registry.search(f"parent={one.facts['weights'][0]}") == [two]
    assert registry.search(f"weights={one.facts['weights'][0]}") == [one]
