from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from registry.conftest import resolve_recipe

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


def update_card(adapter: Path, **fields: Any) -> Path:
    """Change fields of the adapter's card."""
    write_card(adapter, read_card(adapter).model_copy(update=fields))
    return adapter


def source(sha256: str, name: str = "pypi:notes==1.0") -> tuple[SourceRecord, ...]:
    return (SourceRecord(source=name, sha256=sha256, license="CC-BY-4.0"),)


def parent_of(version: Version) -> Parent:
    return Parent(reference=str(version), weights=version.facts["weights"][0], version=version.digest)


def family(registry: Registry, make: MakeAdapter) -> list[Version]:
    """Publish three versions: the first is the warm start of the second, the second of the third, which has another name."""
    first = registry.publish(update_card(make(1), sources=source(RAW)))
    second = registry.publish(update_card(make(2), sources=source(OTHER), parent=parent_of(first)))
    third = registry.publish(update_card(make(3, name="medical/other"), parent=parent_of(second)))
    return [first, second, third]


def test_lineage_lists_base_recipe_sources_gate_and_publisher(
    registry: Registry, make_adapter: MakeAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VERTICAL_USER", "ada")
    adapter = update_card(
        make_adapter(verdict=Verdict(passed=False, reasons=("worse",))), sources=source(RAW), versions={"torch": "2.9"}
    )
    version = registry.publish(adapter, force=True, reason="a trial")
    registry.set_alias(version.name, "candidate", 1)
    registry.revoke(str(version), "a wrong label")

    result = lineage(registry, "medical/triage@1")

    assert (result.reference, result.digest, result.who) == ("medical/triage@1", version.digest, "ada")
    assert (result.base["name"], result.base["weights"]) == ("tiny", "0" * 64)
    assert result.recipe == {"name": "medical/triage", "digest": read_card(adapter).recipe_digest}
    assert result.sources == [{"source": "pypi:notes==1.0", "sha256": RAW, "license": "CC-BY-4.0"}]
    assert result.versions == {"torch": "2.9"}
    assert result.metrics["adapter"] == {"macro_f1": {"value": 0.91, "low": 0.88, "high": 0.94}}
    assert (result.gate, result.forced, result.reason, result.revoked) == ("failed", True, "a trial", "a wrong label")
    assert result.verdict == {"passed": False, "noninferior": False, "reasons": ["worse"]}
    assert (result.parents, result.children, result.signed_by, result.aliases) == ([], [], [], ["candidate"])
    assert json.loads(json.dumps(result.to_dict()))["reference"] == "medical/triage@1"


def test_lineage_follows_parents_and_names_children(registry: Registry, make_adapter: MakeAdapter) -> None:
    first, second, third = family(registry, make_adapter)

    assert [p.version for p in lineage(registry, str(third)).parents] == [str(second), str(first)]
    assert lineage(registry, str(first)).children == [str(second)]
    assert lineage(registry, str(third)).children == []


def test_a_parent_missing_from_the_registry_keeps_the_name_in_the_card(registry: Registry, make_adapter: MakeAdapter) -> None:
    parent = Parent(reference="medical/elsewhere@4", weights="ef" * 32)
    registry.publish(update_card(make_adapter(1), parent=parent))

    (result,) = lineage(registry, "medical/triage").parents

    assert (result.given, result.weights, result.version) == ("medical/elsewhere@4", "ef" * 32, None)


def test_lineage_refuses_a_changed_card(registry: Registry, make_adapter: MakeAdapter) -> None:
    version = registry.publish(make_adapter(1))
    card = version.path / "vertical.json"
    card.chmod(0o644)
    card.write_text(card.read_text().replace("0.91", "0.99"))

    with pytest.raises(CorruptAdapter, match=r"vertical\.json has changed"):
        lineage(registry, "medical/triage")


def test_diff_lists_recipe_sources_metrics_and_files_of_two_versions(registry: Registry, make_adapter: MakeAdapter) -> None:
    data = {"source": "rows.csv", "clean": [{"use": "normalize"}]}
    ungated = {"evaluate": {"gate": False}}
    recipe = resolve_recipe("medical/triage", train={"seed": 0, "learning_rate": 1e-3}, data=data, **ungated)
    other = resolve_recipe("medical/triage", train={"seed": 1, "learning_rate": 1e-3}, data=data | {"clean": []}, **ungated)
    metrics = {"systems": {"adapter": {"metrics": {"macro_f1": {"value": 0.95, "low": 0.9, "high": 0.99}}}}}
    registry.publish(update_card(make_adapter(1), **recipe, sources=source(RAW)))
    registry.publish(update_card(make_adapter(2), **other, sources=source(OTHER), metrics=metrics))

    result = diff(registry, "medical/triage@1", "medical/triage@2")

    assert {key: (side.first, side.second) for key, side in result.recipe.items()} == {
        "train.seed": (0, 1),
        "data.clean": ("(not set)", []),
        "data.clean.0.use": ("normalize", "(not set)"),
    }
    assert (result.sources["pypi:notes==1.0"].first, result.sources["pypi:notes==1.0"].second) == (RAW, OTHER)
    assert result.metrics["macro_f1"].difference == pytest.approx(0.04)
    assert not result.same_rows
    assert result.files == {"adapter_model.safetensors": "changed", "vertical.json": "changed"}
    assert (result.base, result.versions) == ({}, {})


def test_diff_of_a_version_with_itself_is_empty(registry: Registry, make_adapter: MakeAdapter) -> None:
    registry.publish(make_adapter(1))

    result = diff(registry, "medical/triage", "medical/triage@1")

    assert (result.base, result.recipe, result.sources, result.files, result.same_rows) == ({}, {}, {}, {}, True)
    assert result.metrics["macro_f1"].difference == 0


@pytest.mark.parametrize("digits", [RAW, RAW[:8], f"sha256:{RAW}", RAW.upper()])
def test_uses_of_a_source_include_the_descendants(registry: Registry, make_adapter: MakeAdapter, digits: str) -> None:
    first, second, third = family(registry, make_adapter)

    result = find_data_uses(registry, digits)

    assert {(str(u.version), u.how, u.through) for u in result} == {
        (str(first), ("source",), None),
        (str(second), ("source",), str(first)),
        (str(third), ("source",), str(first)),
    }
    assert [str(u.version) for u in result] == ["medical/other@1", "medical/triage@1", "medical/triage@2"]


def test_an_unused_source_has_no_uses_and_a_malformed_digest_is_refused(registry: Registry, make_adapter: MakeAdapter) -> None:
    family(registry, make_adapter)

    assert find_data_uses(registry, "12" * 32) == []
    for digest in ("", "abc", "pypi:notes", "zz" * 32):
        with pytest.raises(RegistryError, match="is not the digest of a source"):
            find_data_uses(registry, digest)


def test_uses_of_a_record_are_found_by_id_and_by_group(registry: Registry, make_adapter: MakeAdapter) -> None:
    rows = [Example("1", record_id="visit-1", group="ada"), Example("2", record_id="visit-2", group="bob")]
    for seed, parts in ((1, {"train": rows[:1], "test": rows[1:]}), (2, {"validation": rows[:1]})):
        adapter = make_adapter(seed)
        write_record_index(adapter, parts)  # type: ignore[arg-type]
        registry.publish(update_card(adapter))
    registry.publish(update_card(make_adapter(3), parent=parent_of(registry.resolve("medical/triage@2"))))
    registry.publish(make_adapter(4))

    def uses(name: str, *kind: Any) -> list[tuple[int, tuple[str, ...], str | None]]:
        return [(u.version.number, u.how, u.through) for u in find_record_uses(registry, name, *kind)]

    assert uses("visit-1") == [(1, ("train",), None), (2, ("validation",), None), (3, ("validation",), "medical/triage@2")]
    assert uses("bob", "group") == [(1, ("test",), None)]
    assert uses("bob", "id") == []
    assert uses("visit-3") == []
    assert lineage(registry, "medical/triage@1").remembers == {"train": {"id": 1, "group": 1}, "test": {"id": 1, "group": 1}}
    with pytest.raises(RegistryError, match="the id is empty"):
        find_record_uses(registry, " ")


def test_a_changed_record_index_is_refused(registry: Registry, make_adapter: MakeAdapter) -> None:
    adapter = make_adapter(1)
    write_record_index(adapter, {"train": [Example("1", record_id="visit-1")]})
    version = registry.publish(update_card(adapter))
    index = version.path / "seen.safetensors"
    index.chmod(0o644)
    write_record_index(version.path, {"train": [Example("1", record_id="visit-2")]})

    with pytest.raises(CorruptAdapter, match=r"seen\.safetensors has changed"):
        find_record_uses(registry, "visit-1")


def test_search_finds_children_and_weights(registry: Registry, make_adapter: MakeAdapter) -> None:
    first, second, _ = family(registry, make_adapter)

    assert registry.search(f"parent={first.facts['weights'][0]}") == [second]
    assert registry.search(f"weights={first.facts['weights'][0]}") == [first]
