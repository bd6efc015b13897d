"""Signing, revoking, copying and bundling versions on the command line, with one small specialist."""

from __future__ import annotations

import json
import os
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from vertical_sdk import VerticalModel
from vertical_sdk.cli import main
from vertical_sdk.errors import RegistryError


def document(capsys: pytest.CaptureFixture[str]) -> Any:
    """The one JSON document on stdout."""
    return json.loads(capsys.readouterr().out)


@pytest.fixture
def published(trained: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """A reference to it in the user's own registry."""
    assert main(["registry", "publish", str(trained), "--alias", "production"]) == 0
    capsys.readouterr()
    return "topics@1"


def test_a_version_signed_by_a_trusted_key_predicts(
    published: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    key = tmp_path / "keys" / "ada"
    assert main(["registry", "keygen", str(key), "--json"]) == 0
    keys = document(capsys)
    assert (keys["private_key"], keys["public_key"], keys["locked"]) == (str(key), f"{key}.pub", False)
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert main(["registry", "keygen", str(key)]) == 7
    capsys.readouterr()

    monkeypatch.setenv("VERTICAL_TRUSTED_KEYS", str(key.parent))
    assert main(["predict", published, "itch", "--json"]) == 7
    assert "is not signed" in document(capsys)["error"]["message"]
    assert main(["registry", "verify", "--json"]) == 6
    assert document(capsys)["problems"] == ["topics@1 has no signature of a trusted signer"]
    assert main(["registry", "sign", "topics@production", "--key", str(key), "--json"]) == 0
    assert document(capsys)["signed_by"] == [keys["fingerprint"]]
    assert main(["predict", published, "itch", "--json"]) == 0
    assert document(capsys)["label"] == "skin"
    assert main(["registry", "verify"]) == 0
    assert "signed by a trusted key" in capsys.readouterr().out


def test_a_locked_key_needs_its_passphrase(
    published: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    key = str(tmp_path / "locked")
    monkeypatch.setenv("VERTICAL_KEY_PASSWORD", "correct horse")
    assert main(["registry", "keygen", key]) == 0
    assert b"ENCRYPTED" in Path(key).read_bytes()

    for words, code in {"": 7, "wrong horse": 7, "correct horse": 0}.items():
        monkeypatch.setenv("VERTICAL_KEY_PASSWORD", words)
        assert main(["registry", "sign", published, "--key", key]) == code
    assert "passphrase" in capsys.readouterr().err


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a terminal of its own")
def test_a_passphrase_prompt_does_not_show_the_input(tmp_path: Path) -> None:
    import pty

    child, terminal = pty.fork()
    if not child:
        os.execv(
            sys.executable,
            [sys.executable, "-m", "vertical_sdk.cli", "registry", "keygen", str(tmp_path / "k"), "--passphrase"],
        )
    shown = b""
    for prompt in (b"Passphrase: ", b"confirmation: "):
        while prompt not in shown:
            shown += os.read(terminal, 1024)
        os.write(terminal, b"correct horse\n")
    _, status = os.waitpid(child, 0)
    os.close(terminal)

    assert os.waitstatus_to_exitcode(status) == 0
    assert b"correct horse" not in shown
    assert b"ENCRYPTED" in (tmp_path / "k").read_bytes()


def test_a_revoked_version_is_used_only_if_it_is_allowed_by_name(published: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["registry", "revoke", "topics@production", "--reason", "leaked rows", "--json"]) == 0
    assert document(capsys)["revoked"] == "leaked rows"

    assert main(["predict", published, "itch", "--json"]) == 7
    assert "--allow-revoked topics@1" in document(capsys)["error"]["message"]
    assert main(["predict", published, "itch", "--json", "--allow-revoked", "topics@2"]) == 7
    capsys.readouterr()
    for reference in (published, "topics@production"):
        assert main(["predict", reference, "itch", "--json", "--allow-revoked", "topics@1"]) == 0
        assert document(capsys)["label"] == "skin"
    assert main(["evaluate", published, "--json"]) == 7
    assert "leaked rows" in document(capsys)["error"]["message"]
    assert main(["evaluate", published, "--json", "--allow-revoked", "topics@1"]) == 0
    assert "adapter" in document(capsys)["systems"]
    for verb in ("forecast", "monitor"):
        assert main([verb, published, "--data", "x.csv", "--allow-revoked", "topics@1"]) == 6
        assert "this is a classification specialist: use `vertical predict`" in capsys.readouterr().err
    with pytest.raises(RegistryError, match="leaked rows"):
        VerticalModel.from_registry(published)
    assert VerticalModel.from_registry(published, allow_revoked=["topics@1"]).adapters == ("topics@1",)


def test_a_revocation_needs_a_reason(published: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["registry", "revoke", published]) == 2
    assert main(["registry", "revoke", published, "--reason", " "]) == 7
    assert main(["registry", "revoke", published, "--reason", "leaked rows"]) == 0
    assert "production" in capsys.readouterr().err
    assert main(["registry", "revoke", published, "--reason", "again"]) == 7


def test_a_copy_and_a_bundle_predict_as_the_original(
    published: str, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own, copied, carried, file = (
        str(p) for p in (home / "registry", tmp_path / "copy", tmp_path / "carried", tmp_path / "a.zip")
    )

    assert main(["registry", "copy", own, copied, "--name", "topics", "--json"]) == 0
    account = document(capsys)
    assert [(v["before"], v["after"], v["new"]) for v in account["versions"]] == [(1, 1, True)]
    assert account["aliases"] == [{"name": "topics", "alias": "production", "version": 1, "outcome": "set", "previous": None}]
    assert main(["registry", "bundle", published, "-o", file, "--registry", copied, "--json"]) == 0
    bundle = document(capsys)
    assert (bundle["versions"], bundle["bytes"]) == (["topics@1"], Path(file).stat().st_size)
    assert main(["registry", "unbundle", file, "--trust-notes", "--registry", carried]) == 0
    assert "topics@production → 1" in capsys.readouterr().out
    assert main(["registry", "unbundle", file, "--registry", carried, "--json"]) == 0
    assert document(capsys)["versions"][0]["new"] is False
    assert main(["predict", "topics@production", "itch", "--registry", carried, "--json"]) == 0
    assert document(capsys)["label"] == "skin"


def test_versions_that_cannot_be_copied_or_bundled_are_reported(
    published: str, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own, file, there = str(home / "registry"), tmp_path / "a.zip", str(tmp_path / "there")
    assert main(["registry", "copy", own, there, "--name", "nothing"]) == 7
    assert main(["registry", "bundle", "topics@9", "-o", str(file)]) == 7
    assert main(["registry", "bundle", "-o", str(file)]) == 2
    assert main(["registry", "bundle", published, "-o", str(file)]) == 0
    capsys.readouterr()
    assert main(["registry", "unbundle", str(file), "--limit", "0.000001", "--registry", there]) == 7
    assert "at most 1000 are read" in capsys.readouterr().err
    file.write_bytes(file.read_bytes()[:-1])
    assert main(["registry", "unbundle", str(file), "--registry", there, "--json"]) == 6
    assert "a.zip: this is not a bundle, or it is cut" in document(capsys)["error"]["message"]
    assert not Path(there).exists()


def test_an_alias_at_another_version_is_kept_and_reported(
    published: str, trained: Path, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import shutil

    other, there = tmp_path / "other", str(tmp_path / "there")
    shutil.copytree(trained, other)
    (other / "report.html").write_text("<p>another</p>")
    assert main(["registry", "publish", str(other), "--alias", "production", "--registry", there]) == 0
    capsys.readouterr()

    assert main(["registry", "copy", str(home / "registry"), there]) == 0
    assert "topics@production points at version 1 in the target and was not moved" in capsys.readouterr().err
    assert main(["registry", "copy", str(home / "registry"), there, "--overwrite-aliases"]) == 0
    assert "topics@production → 2" in capsys.readouterr().out


def test_a_check_replays_self_tests_and_is_shown(published: str, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["registry", "show", published]) == 0
    assert "reported by the publisher" in capsys.readouterr().out

    assert main(["registry", "check", published]) == 0

    assert "self-tests replayed by" in capsys.readouterr().out
    assert main(["registry", "show", published]) == 0
    assert "reported by the publisher; self-tests replayed by" in " ".join(capsys.readouterr().out.split())
    assert main(["registry", "history", "topics", "--json"]) == 0
    assert document(capsys)[-1]["action"] == "check"
    assert main(["registry", "verify"]) == 0
    assert main(["registry", "tag", "topics", "1", "vertical.replayed=me, today"]) == 7
