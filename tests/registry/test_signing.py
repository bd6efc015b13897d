"""Signatures with keys: valid, damaged, from another key, and missing."""

from __future__ import annotations

import base64
import json
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from vertical_sdk.errors import CorruptAdapter, MissingExtra, RegistryError
from vertical_sdk.registry import Registry, Version, signature_check
from vertical_sdk.registry.keys import create_key_pair, read_fingerprint, read_private_key
from vertical_sdk.registry.policy import Policy
from vertical_sdk.registry.signature_check import verify_signature
from vertical_sdk.registry.signing import sign, signature_problems
from vertical_sdk.registry.store import SIGNATURE

MakeAdapter = Callable[..., Path]


@pytest.fixture(autouse=True)
def _forget_checked_signatures() -> None:
    signature_check._valid.clear()


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "registry")


@pytest.fixture
def key(tmp_path: Path) -> Path:
    """A private key, with the public key beside it."""
    create_key_pair(tmp_path / "ada")
    return tmp_path / "ada"


def public(key: Path) -> Path:
    return key.with_name(f"{key.name}.pub")


def trusting(registry: Registry, *keys: Path) -> Registry:
    """The same registry, for a user who trusts these keys."""
    return Registry(registry.location, Policy(trusted_keys=tuple(public(key) for key in keys)))


def put_unchecked(registry: Registry, version: Version, made_by: str, text: str) -> None:
    """Store a signature as another program would."""
    registry.store.tag(version.name, version.number, {SIGNATURE + made_by: text}, registry.new_event(version.name, "sign"))


def test_a_key_pair_has_a_private_file_and_a_public_file(tmp_path: Path) -> None:
    file, made_by = create_key_pair(tmp_path / "keys" / "ada")

    assert file == tmp_path / "keys" / "ada.pub"
    assert stat.S_IMODE((tmp_path / "keys" / "ada").stat().st_mode) == 0o600
    assert read_private_key(tmp_path / "keys" / "ada").curve.name == "secp256r1"
    assert read_fingerprint(file) == made_by


def test_the_fingerprint_is_the_sha256_of_the_public_key_file(key: Path) -> None:
    import hashlib

    assert read_fingerprint(public(key)) == hashlib.sha256(public(key).read_bytes()).hexdigest()


def test_an_existing_key_is_never_overwritten(key: Path, tmp_path: Path) -> None:
    before = key.read_bytes()
    (tmp_path / "eve.pub").write_text("another user's")

    for name in ("ada", "eve"):
        with pytest.raises(RegistryError, match="never overwritten"):
            create_key_pair(tmp_path / name)
    assert key.read_bytes() == before
    assert not (tmp_path / "eve").exists()


def test_an_encrypted_key_signs_only_with_its_passphrase(registry: Registry, make_adapter: MakeAdapter, tmp_path: Path) -> None:
    registry.publish(make_adapter(1))
    create_key_pair(tmp_path / "locked", "correct horse")

    with pytest.raises(RegistryError, match=r"locked: this key needs its passphrase\. Set \$VERTICAL_KEY_PASSWORD"):
        sign(registry, "medical/triage", tmp_path / "locked")
    with pytest.raises(RegistryError, match="the passphrase is wrong"):
        sign(registry, "medical/triage", tmp_path / "locked", "wrong horse")
    assert sign(registry, "medical/triage", tmp_path / "locked", "correct horse").signatures
    assert b"ENCRYPTED" in (tmp_path / "locked").read_bytes()


def test_a_passphrase_is_ignored_for_an_unencrypted_key(registry: Registry, make_adapter: MakeAdapter, key: Path) -> None:
    registry.publish(make_adapter(1))

    assert sign(registry, "medical/triage", key, "of another key").signatures


def test_a_version_signed_by_a_trusted_key_is_loaded(registry: Registry, make_adapter: MakeAdapter, key: Path) -> None:
    registry.publish(make_adapter(1))

    signed = sign(registry, "medical/triage", key)

    assert list(signed.signatures) == [read_fingerprint(public(key))]
    assert trusting(registry, key).resolve("medical/triage") == signed
    assert registry.history("medical/triage")[-1].action == "sign"
    assert signature_problems(trusting(registry, key)) == []
    assert signed.tags == {}


def test_a_version_without_a_trusted_signature_is_refused_with_the_keys(
    registry: Registry, make_adapter: MakeAdapter, key: Path, tmp_path: Path
) -> None:
    registry.publish(make_adapter(1))
    create_key_pair(tmp_path / "eve")
    only_ada = trusting(registry, key)

    with pytest.raises(
        RegistryError, match=rf"medical/triage@1 is not signed\. Trusted: .*ada\.pub \({read_fingerprint(public(key))[:16]}"
    ):
        only_ada.resolve("medical/triage")
    sign(registry, "medical/triage", tmp_path / "eve")
    eve = read_fingerprint(tmp_path / "eve.pub")
    with pytest.raises(RegistryError, match=rf"signed by {eve[:16]}…, which is not trusted"):
        only_ada.resolve("medical/triage")
    assert signature_problems(only_ada) == ["medical/triage@1 has no signature of a trusted signer"]
    assert trusting(registry, key, tmp_path / "eve").resolve("medical/triage").number == 1
    assert only_ada.resolve("medical/triage", check=False).number == 1


def test_a_signature_of_another_version_is_rejected(registry: Registry, make_adapter: MakeAdapter, key: Path) -> None:
    for seed in (1, 2):
        registry.publish(make_adapter(seed))
    first = sign(registry, "medical/triage@1", key)
    second = registry.resolve("medical/triage@2")

    put_unchecked(registry, second, read_fingerprint(public(key)), next(iter(first.signatures.values())))

    with pytest.raises(RegistryError, match=r"medical/triage@2: its signature by .*ada\.pub.* is not valid: .*adapter_model"):
        trusting(registry, key).resolve("medical/triage@2")
    for checked in (registry, trusting(registry, key)):
        (problem,) = signature_problems(checked)
        assert "medical/triage@2" in problem
        assert "adapter_model.safetensors" in problem


def test_a_signature_made_by_another_key_is_rejected(
    registry: Registry, make_adapter: MakeAdapter, key: Path, tmp_path: Path
) -> None:
    version = registry.publish(make_adapter(1))
    create_key_pair(tmp_path / "eve")
    eves = next(iter(sign(registry, "medical/triage", tmp_path / "eve").signatures.values()))
    renamed = eves.replace(read_fingerprint(tmp_path / "eve.pub"), read_fingerprint(public(key)))

    for text, message in ((eves, "it names .* as its signer"), (renamed, "another key made it")):
        put_unchecked(registry, version, read_fingerprint(public(key)), text)
        with pytest.raises(RegistryError, match=message):
            trusting(registry, key).resolve("medical/triage")


@pytest.mark.parametrize("damage", ["cut", "empty", "list", "deep", "no hint", "other statement", "flipped", "no signature"])
def test_a_damaged_signature_is_rejected(damage: str, registry: Registry, make_adapter: MakeAdapter, key: Path) -> None:
    version = sign(registry, str(registry.publish(make_adapter(1))), key)
    (made_by, text), *_ = version.signatures.items()
    bundle = json.loads(text)
    envelope = bundle["dsseEnvelope"]
    if damage == "no hint":
        del bundle["verificationMaterial"]["publicKey"]["hint"]
    elif damage == "other statement":
        payload = json.loads(base64.b64decode(envelope["payload"]))
        payload["subject"][0]["name"] = "else"
        envelope["payload"] = base64.b64encode(json.dumps(payload).encode()).decode()
    elif damage == "flipped":
        content = bytearray(base64.b64decode(envelope["signatures"][0]["sig"]))
        content[-1] ^= 1
        envelope["signatures"][0]["sig"] = base64.b64encode(content).decode()
    elif damage == "no signature":
        envelope["signatures"] = []
    texts = {"cut": text[:-40], "empty": "", "list": "[1, 2]", "deep": "[" * 30_000}
    put_unchecked(registry, version, made_by, texts.get(damage, json.dumps(bundle)))

    with pytest.raises(RegistryError, match=r"medical/triage@1: its signature by .*ada\.pub"):
        trusting(registry, key).resolve("medical/triage")
    assert len(signature_problems(trusting(registry, key))) == 1


def test_a_signature_covers_every_file_including_those_of_git(
    registry: Registry, make_adapter: MakeAdapter, key: Path, tmp_path: Path
) -> None:
    adapter = make_adapter(1)
    version = sign(registry, str(registry.publish(adapter)), key)
    copy = tmp_path / "copy"
    shutil.copytree(version.path, copy)
    moved = replace(version, folder=lambda: copy)

    verify_signature(moved, public(key))  # the path and the name of the folder do not matter
    (copy / ".gitattributes").write_text("* -text")
    with pytest.raises(RegistryError, match=r"\.gitattributes"):
        verify_signature(moved, public(key))


def test_a_signature_that_leaves_out_a_file_is_rejected(registry: Registry, make_adapter: MakeAdapter, key: Path) -> None:
    from model_signing import hashing
    from model_signing.signing import Config

    version = registry.publish(make_adapter(1))
    incomplete = hashing.Config().set_ignored_paths(paths=["adapter_model.safetensors"])
    file = key.with_name("signature")
    Config().use_elliptic_key_signer(private_key=key).set_hashing_config(incomplete).sign(version.path, file)
    put_unchecked(registry, version, read_fingerprint(public(key)), file.read_text())

    with pytest.raises(RegistryError, match=r"it does not cover adapter_model\.safetensors"):
        trusting(registry, key).resolve("medical/triage")


def test_the_command_line_of_model_signing_accepts_the_signature(
    registry: Registry, make_adapter: MakeAdapter, key: Path
) -> None:
    version = sign(registry, str(registry.publish(make_adapter(1))), key)
    file = key.with_name("signature")
    file.write_text(next(iter(version.signatures.values())))
    words = ["verify", "key", str(version.path), "--signature", str(file), "--public_key", str(public(key))]

    process = subprocess.run([sys.executable, "-m", "model_signing", *words], capture_output=True, text=True, check=False)

    assert process.returncode == 0, process.stdout + process.stderr


def test_a_changed_file_is_not_signed(registry: Registry, make_adapter: MakeAdapter, key: Path) -> None:
    version = registry.publish(make_adapter(1))
    (version.path / "tokenizer.json").chmod(0o644)
    (version.path / "tokenizer.json").write_text("[]")

    with pytest.raises(CorruptAdapter, match=r"tokenizer\.json has changed"):
        sign(registry, "medical/triage", key)


def test_a_revoked_version_is_not_signed(registry: Registry, make_adapter: MakeAdapter, key: Path) -> None:
    registry.publish(make_adapter(1))
    registry.revoke("medical/triage", "wrong labels")

    with pytest.raises(RegistryError, match="wrong labels"):
        sign(registry, "medical/triage", key)


def test_a_signature_is_verified_once_in_a_process(
    registry: Registry, make_adapter: MakeAdapter, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign(registry, str(registry.publish(make_adapter(1))), key)
    calls = []
    original = signature_check.check_signature
    monkeypatch.setattr(signature_check, "check_signature", lambda *given: (calls.append(given), original(*given)))

    for _ in range(3):
        trusting(registry, key).resolve("medical/triage")
    assert len(calls) == 1


def test_an_unsuitable_key_is_refused_with_the_reason(
    registry: Registry, make_adapter: MakeAdapter, key: Path, tmp_path: Path
) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ed25519

    registry.publish(make_adapter(1))
    unsuitable = ed25519.Ed25519PrivateKey.generate()
    text = unsuitable.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (tmp_path / "edwards").write_bytes(text)
    (tmp_path / "noise").write_bytes(b"\x00\xff")

    for name, message in {"edwards": "of another kind", "noise": "not a private key", "none": "cannot be read"}.items():
        with pytest.raises(RegistryError, match=message):
            sign(registry, "medical/triage", tmp_path / name)
    for file, message in {key: "is a private key", tmp_path / "noise": "not a public key", tmp_path: "cannot be read"}.items():
        with pytest.raises(RegistryError, match=message):
            read_fingerprint(file)


def test_without_the_extra_a_signed_version_is_refused(
    registry: Registry, make_adapter: MakeAdapter, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign(registry, str(registry.publish(make_adapter(1))), key)
    monkeypatch.setitem(sys.modules, "model_signing", None)

    with pytest.raises(MissingExtra, match=r"needs the extra 'sign': pip install .*\[sign\]"):
        trusting(registry, key).resolve("medical/triage")
    assert registry.resolve("medical/triage").number == 1
