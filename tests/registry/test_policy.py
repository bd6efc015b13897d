"""The policy of a registry, revocations, internal tags and search conditions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from vertical_sdk.card import SourceRecord, read_card, write_card
from vertical_sdk.errors import CorruptAdapter, RegistryError
from vertical_sdk.registry import Registry
from vertical_sdk.registry.policy import Policy
from vertical_sdk.registry.query import Condition, parse_condition

MakeAdapter = Callable[..., Path]


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "registry")


def set_licenses(folder: Path, base: str | None, data: str | None) -> Path:
    """Write these licences into the adapter's card."""
    card = read_card(folder)
    source = SourceRecord(source="file:notes.csv", sha256="3" * 64, license=data)
    write_card(folder, card.model_copy(update={"base": card.base.model_copy(update={"license": base}), "sources": (source,)}))
    return folder


def test_a_licence_policy_accepts_matches_and_names_refused_licences(tmp_path: Path, make_adapter: MakeAdapter) -> None:
    registry = Registry(tmp_path / "registry", Policy(licenses=("apache-2.0", "cc-by-*")))

    accepted = registry.publish(set_licenses(make_adapter(1), "Apache-2.0", "CC-BY-4.0"))
    with pytest.raises(RegistryError) as refused:
        registry.publish(set_licenses(make_adapter(2), "gpl-3.0", None))

    assert accepted.facts["license"] == ("CC-BY-4.0",)
    assert "its base tiny has the licence gpl-3.0; its data file:notes.csv states no licence." in str(refused.value)
    assert len(registry.versions("medical/triage")) == 1


def test_the_default_policy_comes_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "team.pub").write_text("a key")
    monkeypatch.setenv("VERTICAL_TRUSTED_KEYS", str(tmp_path / "keys"))
    monkeypatch.setenv("VERTICAL_LICENSES", "mit, cc0-1.0")

    assert Registry(tmp_path / "r").policy == Policy((tmp_path / "keys" / "team.pub",), ("mit", "cc0-1.0"))


def test_a_missing_key_file_is_an_error_and_not_an_empty_policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VERTICAL_TRUSTED_KEYS", str(tmp_path / "gone"))

    with pytest.raises(RegistryError, match="gone is neither a public key nor a folder"):
        Registry(tmp_path / "r")


def test_a_revoked_version_loads_only_if_allowed_by_name(registry: Registry, make_adapter: MakeAdapter) -> None:
    registry.publish(make_adapter(1))
    registry.publish(make_adapter(2))
    registry.set_alias("medical/triage", "production", 2)

    registry.revoke("medical/triage@production", "learned from rows of another hospital")

    with pytest.raises(RegistryError, match=r"medical/triage@2 was revoked: learned from rows of another hospital\."):
        registry.resolve("medical/triage@production")
    assert registry.resolve("medical/triage@production", allow_revoked=["medical/triage@2"]).number == 2
    assert registry.resolve("medical/triage@2", check=False).revoked == "learned from rows of another hospital"
    assert registry.resolve("medical/triage@1").revoked is None
    assert registry.history("medical/triage")[-1].action == "revoke"


def test_a_revocation_needs_a_reason_and_happens_once(registry: Registry, make_adapter: MakeAdapter) -> None:
    registry.publish(make_adapter(1))

    with pytest.raises(RegistryError, match=r"the reason is empty\. Give the reason"):
        registry.revoke("medical/triage@1", " ")
    registry.revoke("medical/triage@1", "wrong labels")
    with pytest.raises(RegistryError, match=r"is already revoked: wrong labels\."):
        registry.revoke("medical/triage@1", "again")


def test_internal_tags_can_neither_be_set_nor_seen(registry: Registry, make_adapter: MakeAdapter) -> None:
    registry.publish(make_adapter(1), tags={"stage": "pilot"})
    registry.revoke("medical/triage@1", "wrong labels")

    with pytest.raises(RegistryError, match=r"the prefix 'vertical\.' is reserved for the registry"):
        registry.tag("medical/triage", 1, {"vertical.revoked": None})
    assert registry.resolve("medical/triage@1", check=False).tags == {"stage": "pilot"}


def test_search_finds_versions_by_their_metadata(registry: Registry, make_adapter: MakeAdapter) -> None:
    registry.publish(set_licenses(make_adapter(1), "apache-2.0", "cc-by-4.0"), tags={"stage": "pilot"})
    registry.publish(make_adapter(2, name="legal/clause"))

    references = {
        text: [str(v) for v in registry.search(*text.split())]
        for text in [
            "macro_f1>0.9",
            "macro_f1>0.95",
            "license=cc-by-4.0",
            "task=classification tag.stage=pilot",
            "name=legal/clause",
        ]
    }

    assert references == {
        "macro_f1>0.9": ["legal/clause@1", "medical/triage@1"],
        "macro_f1>0.95": [],
        "license=cc-by-4.0": ["medical/triage@1"],
        "task=classification tag.stage=pilot": ["medical/triage@1"],
        "name=legal/clause": ["legal/clause@1"],
    }


def test_pages_of_a_search_and_of_a_list_join_without_gaps(registry: Registry, make_adapter: MakeAdapter) -> None:
    for seed in range(3):
        registry.publish(make_adapter(seed))
        registry.publish(make_adapter(seed, name=f"legal/clause-{seed}"))

    first = registry.search(limit=4)
    rest = registry.search(limit=4, after=first[-1])
    names = [s.name for s in registry.list_adapters(limit=2)] + [
        s.name for s in registry.list_adapters(after="legal/clause-1", limit=9)
    ]

    assert [str(v) for v in [*first, *rest]] == [
        "legal/clause-0@1", "legal/clause-1@1", "legal/clause-2@1",
        "medical/triage@1", "medical/triage@2", "medical/triage@3",
    ]  # fmt: skip
    assert names == ["legal/clause-0", "legal/clause-1", "legal/clause-2", "medical/triage"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("domain=medical", Condition("domain", "=", "medical")),
        (" macro_f1 >= .8 ", Condition("macro_f1", ">=", 0.8)),
        ("log_loss<0.4", Condition("log_loss", "<", 0.4)),
        ("tag.note=a = b", Condition("tag.note", "=", "a = b")),
        ("finance.recall_at_alarms=1", Condition("finance.recall_at_alarms", "=", 1.0)),
    ],
)
def test_conditions_are_parsed(text: str, expected: Condition) -> None:
    assert parse_condition(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("medical", "is not a condition"),
        ("domain>medical", "domain is a word and can only be compared with '='"),
        ("domian=medical", "Did you mean 'domain'"),
        ("=x", "is not a condition"),
        ("macro_f1>", "is not a condition"),
    ],
)
def test_a_malformed_condition_is_refused_with_the_reason(text: str, message: str) -> None:
    with pytest.raises(RegistryError, match=message):
        parse_condition(text)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("[]", "is not a PEFT configuration"),
        ('{"peft_type": "PROMPT_TUNING"}', "only LORA adapters can be published"),
        ('{"peft_type": "LORA", "auto_mapping": {"parent_library": "evil"}}', "auto_mapping names a module"),
    ],
)
def test_an_adapter_that_peft_cannot_load_is_refused(
    registry: Registry, make_adapter: MakeAdapter, config: str, message: str
) -> None:
    folder = make_adapter(1)
    (folder / "adapter_config.json").write_text(config)
    write_card(folder, read_card(folder))

    with pytest.raises(CorruptAdapter, match=message):
        registry.publish(folder)


def test_weights_that_peft_would_ignore_are_refused(registry: Registry, make_adapter: MakeAdapter) -> None:
    import numpy as np
    from safetensors.numpy import save_file

    folder = make_adapter(1)
    save_file({"bert.query.lora_A.weight": np.zeros((2, 2), np.float32)}, folder / "adapter_model.safetensors")
    write_card(folder, read_card(folder))

    with pytest.raises(
        CorruptAdapter, match=r"has the tensor 'bert\.query\.lora_A\.weight'; PEFT would load it without effect"
    ):
        registry.publish(folder)
