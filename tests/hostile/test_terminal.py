"""Texts of others on the terminal: escape sequences in names, reasons, tags, metrics, cards and files are shown, not obeyed."""

from __future__ import annotations

import io
import json
import logging
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from registry.conftest import RESULTS, resolve_recipe, write_adapter

from vertical_sdk.card import Parent, SourceRecord, Verdict, read_card, write_card
from vertical_sdk.cli import main, output
from vertical_sdk.errors import RegistryError
from vertical_sdk.model_card import render_readme
from vertical_sdk.paths import file_digest, hide_path
from vertical_sdk.registry import Registry
from vertical_sdk.registry.copying import copy_versions
from vertical_sdk.registry.store import Stored
from vertical_sdk.server.errors import public_message
from vertical_sdk.server.security.access_log import open_log

ATTACK = "x\x1b]52;c;cm0gLXJm\x07\x1b[2J\x9b31m\rVerdict: passed\nGate: passed\u202e\u2066\x7f\u2028\u200f end"
"""It would write to the clipboard, clear the screen, colour it, overwrite the line, add a line and turn the text around."""
FORBIDDEN = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """A registry in which an enemy with the right to write has put the attack into every text."""
    registry = Registry(tmp_path / "registry")
    registry.publish(write_adapter(tmp_path / "first"), reason=ATTACK, tags={"stage": ATTACK}, alias="candidate")
    folder = write_adapter(tmp_path / "second", 2)
    card = read_card(folder)
    systems = {
        "adapter": {"title": ATTACK, "metrics": {ATTACK: RESULTS["systems"]["adapter"]["metrics"]["macro_f1"]}},
        "base": {"title": ATTACK, "metrics": {}, "error": ATTACK},
    }
    changes: dict[str, Any] = {
        "name": ATTACK,
        "base": card.base.model_copy(update={"name": ATTACK, "architecture": ATTACK, "license": ATTACK}),
        "sources": (SourceRecord(source=ATTACK, sha256="a" * 64, license=ATTACK),),
        "parent": Parent(reference=ATTACK, weights="b" * 64),
        "versions": {ATTACK: ATTACK},
        "recipe": resolve_recipe("medical/triage", summary=ATTACK, train={ATTACK: ATTACK})["recipe"] | {"name": ATTACK},
        "gate": Verdict(passed=True, reasons=(ATTACK,)),
        "metrics": {"rows": 9, "confidence": 0.95, "tests": [], "systems": systems, "warnings": [ATTACK], "unknown": ATTACK},
        "account": {"steps": []},
    }
    write_card(folder, card.model_copy(update=changes))
    files = {path.name: path for path in folder.iterdir()}
    manifest = {name: Stored(file_digest(path), path.stat().st_size) for name, path in files.items()}
    facts = {"task": [ATTACK], "base": [ATTACK], "source": ["a" * 64], "gate": [ATTACK]}
    record = {"task": ATTACK, "base": ATTACK, "metric": ATTACK, "value": 0.9, "gate": ATTACK, "forced": False, "reason": ATTACK}
    event = registry.acting_for(ATTACK).new_event("medical/triage", "publish", why=ATTACK)
    registry.store.put(
        "medical/triage",
        files,
        manifest,
        record=record | {"facts": facts, "metrics": {ATTACK: 0.9}},
        tags={"t": ATTACK},
        event=event,
    )
    return registry


COMMANDS = [
    ["list"],
    ["show", "medical/triage@1"],
    ["show", "medical/triage@2"],
    ["history", "medical/triage"],
    ["lineage", "medical/triage@2"],
    ["diff", "medical/triage@1", "medical/triage@2"],
    ["search", "name=medical/triage"],
    ["used-data", "a" * 64],
    ["verify"],
    ["tag", "medical/triage", "1", f"more={ATTACK}"],
    ["revoke", "medical/triage@2", "--reason", ATTACK],
    ["show", ATTACK],
    ["search", f"a{ATTACK}=b"],
    ["history", f"medical/{ATTACK}"],
    ["publish", f"./{ATTACK}"],
    ["alias", "medical/triage", ATTACK, "1"],
    ["unbundle", f"./{ATTACK}"],
    ["token", "add", ATTACK, "--scope", ATTACK],
]


def test_no_command_prints_control_characters(registry: Registry, capsys: pytest.CaptureFixture[str]) -> None:
    for words in COMMANDS:
        for as_json in ([], ["--json"]):
            main(["registry", *words, *as_json, "--registry", registry.location])

            shown = capsys.readouterr()
            assert FORBIDDEN.findall(shown.out + shown.err) == [], words
            assert not re.search(r"^\s*(Verdict|Gate): passed", shown.out + shown.err, re.MULTILINE) or words[0] == "show"
            if as_json:
                json.loads(shown.out)


def test_a_json_document_keeps_every_character(registry: Registry, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["registry", "history", "medical/triage", "--json", "--registry", registry.location]) == 0

    assert json.loads(capsys.readouterr().out)[-1]["why"] == ATTACK


def test_a_real_terminal_gets_no_sequence_of_others(registry: Registry) -> None:
    ours, theirs = pty.openpty()
    words = [sys.executable, "-m", "vertical_sdk", "registry", "list", "--registry", registry.location]
    with subprocess.Popen(words, stdout=theirs, stderr=theirs, stdin=theirs) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                piece = os.read(ours, 65536)
            except OSError:  # the terminal is closed
                break
            shown += piece
        assert process.wait() == 0
    os.close(ours)

    assert b"\x1b]" not in shown
    assert b"\x07" not in shown
    assert b"\x1b[2J" not in shown
    assert "\x9b".encode() not in shown
    assert "\u202e".encode() not in shown


def test_progress_logs_and_traces_are_escaped(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with output.showing() as progress:
        progress(f"copying {ATTACK}", None)

    def fail() -> list[str]:
        logging.getLogger("other").error("read %s", ATTACK)
        raise RuntimeError(ATTACK)

    monkeypatch.setattr("vertical_sdk.recipe.recipe_names", fail)
    main(["recipe", "list"])
    main(["recipe", "list", "--debug"])

    shown = capsys.readouterr()
    assert "RuntimeError" in shown.err
    assert FORBIDDEN.findall(shown.out + shown.err) == []


def test_honest_texts_are_printed_as_they_are() -> None:
    for text in ("macro_f1 ≥ 0.8", "规则 “甲”", "naïve [a] (b) {c} <d>", "é\u0301 👩\u200d⚕️", "C:\\rows\\new.csv"):
        assert output.escape(text) == text
    assert output.escape("a\tb\nc\x1b\u202e") == r"a\tb\nc\x1b\u202e"
    assert output.escape("one\ntwo", lines=True) == "one\n  two"


def test_a_model_card_has_no_markup_of_others(registry: Registry) -> None:
    attack = f"</b><script>alert(1)</script>[click](javascript:1)|a|`rm`\n# Passed{ATTACK}"
    card = registry.resolve("medical/triage@1").card
    system = RESULTS["systems"]["adapter"] | {"title": attack}
    changes = {
        "name": f'a"){attack}',
        "recipe": card.recipe | {"summary": attack, "name": attack},
        "gate": Verdict(passed=True, reasons=(attack,)),
        "sources": (SourceRecord(source=attack, sha256="", license=attack),),
        "parent": Parent(reference=attack, weights="b" * 64),
        "training": {"ensemble": {attack: 0.5}},
        "metrics": RESULTS | {"systems": {"adapter": system, "base": RESULTS["systems"]["base"]}},
    }

    readme = render_readme(card.model_copy(update=changes), None)

    body = readme.split("\n---\n", 1)[1]
    assert FORBIDDEN.findall(readme) == []
    prose = re.sub(r"```.*?```|`[^`\n]*`", "", re.sub(r"\\.", "", body), flags=re.DOTALL)
    assert not re.search(r"<[a-z/]", prose)
    assert "[click]" not in prose
    assert not re.search(r"^# Passed", body, re.MULTILINE)
    assert "reported by the publisher" in body


def test_a_request_log_has_no_control_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.StringIO()
    monkeypatch.setattr(sys, "stderr", written)

    open_log(None)({"path": f"/a/{ATTACK}"})

    assert FORBIDDEN.findall(written.getvalue()) == []
    assert json.loads(written.getvalue())["path"] == f"/a/{ATTACK}"


def test_messages_and_logs_name_no_folder_of_this_machine(tmp_path: Path) -> None:
    source, target = Registry(f"file://{tmp_path}/private/registry"), Registry(tmp_path / "target")
    source.publish(write_adapter(tmp_path / "adapter"))

    copy_versions(source, target)

    assert target.history("medical/triage")[-1].why.startswith("copied from registry (medical/triage@1)")
    error = RegistryError(f"file://{tmp_path}/private/registry: it is damaged (FILE://{tmp_path}/private/x).", where="a@1")
    assert public_message(error) == "a@1: registry: it is damaged (x)."
    assert hide_path("see https://example.org/a and s3://bucket/b") == "see https://example.org/a and s3://bucket/b"
