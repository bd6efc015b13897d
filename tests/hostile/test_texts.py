"""Texts that a store cannot keep: bytes of a command line that are not UTF-8, and reasons without end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from registry.conftest import write_adapter

from vertical_sdk.errors import RegistryError
from vertical_sdk.registry import Registry

HALF = "caf\udce9"
"""What Python makes of the bytes of "café" in Latin-1 on a command line."""
CALLS: dict[str, Callable[[Registry, str], object]] = {
    "reason of a publish": lambda r, text: r.publish(write_adapter(Path("second"), 2), reason=text),
    "tag": lambda r, text: r.tag("medical/triage", 1, {"stage": text}),
    "reason of a tag": lambda r, text: r.tag("medical/triage", 1, {"stage": "pilot"}, why=text),
    "reason of an alias": lambda r, text: r.set_alias("medical/triage", "production", 1, why=text),
    "evidence": lambda r, text: r.set_alias("medical/triage", "production", 1, evidence=f'"{text}"'),
    "revocation": lambda r, text: r.revoke("medical/triage@1", text),
    "purge": lambda r, text: r.purge("medical/triage@1", text),
    "user": lambda r, text: r.acting_for(text).tag("medical/triage", 1, {"stage": "pilot"}),
    "search": lambda r, text: r.search(f"domain={text}"),
    "search of a tag": lambda r, text: r.search(f"tag.stage={text}"),
    "prefix": lambda r, text: r.list_adapters(text),
}


@pytest.fixture(params=["folder", "memory"])
def registry(request: pytest.FixtureRequest, tmp_path: Path) -> Registry:
    registry = Registry(tmp_path / "registry" if request.param == "folder" else f"memory://{tmp_path.name}")
    registry.publish(write_adapter(tmp_path / "first"))
    return registry


@pytest.mark.parametrize("name", CALLS)
def test_a_text_that_is_not_unicode_is_refused(registry: Registry, name: str) -> None:
    with pytest.raises(RegistryError, match=r"is not Unicode text: it has '.udce9' at character \d+\. Write UTF-8"):
        CALLS[name](registry, HALF)
    assert registry.verify() == []
    assert len(registry.history("medical/triage")) == 1


@pytest.mark.parametrize("name", sorted(set(CALLS) - {"search", "search of a tag", "tag"}))
def test_a_text_without_end_is_refused(registry: Registry, name: str) -> None:
    with pytest.raises(RegistryError, match=r"has 4\d{4} characters, and at most 32000 are kept"):
        CALLS[name](registry, "x" * 40_000)


@pytest.mark.parametrize("name", sorted(set(CALLS) - {"search", "search of a tag", "prefix"}))
def test_texts_of_every_script_are_kept(registry: Registry, name: str) -> None:
    CALLS[name](registry, "café 医疗 🙂")
    assert any("医疗" in f"{event.why}{event.who}{event.evidence}" for event in registry.history("medical/triage"))
