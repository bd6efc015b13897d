"""Who vouches for a version, and what happens where it is not so."""

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
from vertical_sdk.registry import Registry, signature_check
from vertical_sdk.registry.keys import create_key_pair, read_fingerprint, read_private_key
from vertical_sdk.registry.policy import Policy
from vertical_sdk.registry.signature_check import verify_signature
from vertical_sdk.registry.signing import sign, signature_problems

MakeAdapter = Callable[..., Path]


@pytest.fixture(autouse=True)
def _forget_checked_signatures() -> None:
    signature_check._valid.clear()


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "registry")


@pytest.fixture
def key(tmp_path: Path) -> Path:
    """A private key; the public one is beside it."""
    create_key_pair(tmp_path / "ada")
    return tmp_path / "ada"


def public(key: Path) -> Path:
    return key.with_name(f"{key.name}.pub")


def trusting(registry: Registry, *keys: Path) -> Registry:
    """The same registry, for somebody who trusts these keys."""
    return Registry(registry.location, Policy(trusted_keys=tuple(public(key) for key in keys)))


def test_a_key_pair_is_a_file_for_its_owner_alone_and_one_for_all(tmp_path: Path) -> None:
    file, made_by = create_key_pair(tmp_path / "keys" / "ada")

    assert file == tmp_path / "keys" / "ada.pub"
    assert stat.S_IMODE((tmp_path / "keys" / "ada").stat().st_mode) == 0o600
    assert read_private_key(tmp_path / "keys" / "ada").curve.name == "secp256r1"
    assert read_fingerprint(file) == made_by


def test_the_fingerprint_is_the_sha256_of_the_public_keys_file(key: Path) -> None:
    import hashlib

    assert read_fingerprint(public(key)) == hashlib.sha256(public(key).read_bytes()).hexdigest()


def test_no_key_is_overwritten(key: Path, tmp_path: Path) -> None:
    before = key.read_bytes()
    (tmp_path / "eve.pub").write_text("somebody's")

    for name in ("ada", "eve"):
        with pytest.raises(RegistryError, match="never overwritten"):
            create_key_pair(tmp_path / name)
    assert key.read_bytes() == before
    assert not (tmp_path / "eve").exists()


def test_a_locked_key_signs_with_its_passphrase_only(registry: Registry, make_adapter: MakeAdapter, tmp_path: Path) -> None:
    registry.publish(make_adapter(1))
    create_key_pair(tmp_path / "locked", "correct horse")

    with pytest.raises(RegistryError, match=r"locked: needs its passphrase: set \$VERTICAL_KEY_PASSWORD"):
        sign(registry, "medical/triage", tmp_path / "locked")
    with pytest.raises(RegistryError, match="the passphrase is wrong"):
        sign(registry, "medical/triage", tmp_path / "locked", "wrong horse")
    assert sign(registry, "medical/triage", tmp_path / "locked", "correct horse").signatures
    assert b"ENCRYPTED" in (tmp_path / "locked").read_bytes()


def test_a_passphrase_for_a_key_without_one_is_not_used(registry: Registry, make_adapter: MakeAdapter, key: Path) -> None:
    registry.publish(make_adapter(1))

    assert sign(registry, "medical/triage", key, "of another key").signatures


def test_what_a_trusted_key_signed_is_loaded(registry: Registry, make_adapter: MakeAdapter, key: Path) -> None:
    registry.publish(make_adapter(1))

    signed = sign(registry, "medical/triage", key)

    assert list(signed.signatures) == [read_fingerprint(public(key))]
    assert trusting(registry, key).resolve("medical/triage") == signed
    assert registry.history("medical/triage")[-1].action == "sign"
    assert signature_problems(trusting(registry, key)) == []
    assert signed.tags == {}


def test_what_no_trusted_key_signed_is_refused_with_the_keys(
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
    with pytest.raises(RegistryError, match=rf"signed by {eve[:16]}…, none of whom is trusted"):
        only_ada.resolve("medical/triage")
    assert signature_problems(only_ada) == ["medical/triage@1 is signed by nobody who is trusted"]
    assert trusting(registry, key, tmp_path / "eve").resolve("medical/triage").number == 1
    assert only_ada.resolve("medical/triage", check=False).number == 1


def test_a_signature_of_another_version_does_not_hold(registry: Registry, make_adapter: MakeAdapter, key: Path) -> None:
    for seed in (1, 2):
        registry.publish(make_adapter(seed))
    first = sign(registry, "medical/triage@1", key)
    other = registry.resolve("medical/triage@2")

    registry.add_signature(other, read_fingerprint(public(key)), next(iter(first.signatures.values())))

    with pytest.raises(RegistryError, match=r"medical/triage@2: its signature by .*ada\.pub.* does not hold: .*adapter_model"):
        trusting(registry, key).resolve("medical/triage@2")
    for asked in (registry, trusting(registry, key)):
        (told,) = signature_problems(asked)
        assert "medical/triage@2" in told
        assert "adapter_model.safetensors" in told


def test_a_signature_that_is_called_a_trusted_keys_and_is_another_ones_does_not_hold(
    registry: Registry, make_adapter: MakeAdapter, key: Path, tmp_path: Path
) -> None:
    version = registry.publish(make_adapter(1))
    create_key_pair(tmp_path / "eve")
    eves = next(iter(sign(registry, "medical/triage", tmp_path / "eve").signatures.values()))
    renamed = eves.replace(read_fingerprint(tmp_path / "eve.pub"), read_fingerprint(public(key)))

    for text, told in ((eves, "it says that"), (renamed, "another key made it")):
        registry.add_signature(version, read_fingerprint(public(key)), text)
        with pytest.raises(RegistryError, match=told):
            trusting(registry, key).resolve("medical/triage")


@pytest.mark.parametrize("harm", ["cut", "empty", "list", "deep", "no hint", "other statement", "flipped", "no signature"])
def test_a_harmed_signature_does_not_hold(harm: str, registry: Registry, make_adapter: MakeAdapter, key: Path) -> None:
    version = sign(registry, str(registry.publish(make_adapter(1))), key)
    (made_by, text), *_ = version.signatures.items()
    bundle = json.loads(text)
    envelope = bundle["dsseEnvelope"]
    if harm == "no hint":
        del bundle["verificationMaterial"]["publicKey"]["hint"]
    elif harm == "other statement":
        payload = json.loads(base64.b64decode(envelope["payload"]))
        payload["subject"][0]["name"] = "else"
        envelope["payload"] = base64.b64encode(json.dumps(payload).encode()).decode()
    elif harm == "flipped":
        content = bytearray(base64.b64decode(envelope["signatures"][0]["sig"]))
        content[-1] ^= 1
        envelope["signatures"][0]["sig"] = base64.b64encode(content).decode()
    elif harm == "no signature":
        envelope["signatures"] = []
    texts = {"cut": text[:-40], "empty": "", "list": "[1, 2]", "deep": "[" * 30_000}
    registry.add_signature(version, made_by, texts.get(harm, json.dumps(bundle)))

    with pytest.raises(RegistryError, match=r"medical/triage@1: its signature by .*ada\.pub"):
        trusting(registry, key).resolve("medical/triage")
    assert len(signature_problems(trusting(registry, key))) == 1


def test_a_signature_covers_every_file_also_those_of_git(
    registry: Registry, make_adapter: MakeAdapter, key: Path, tmp_path: Path
) -> None:
    adapter = make_adapter(1)
    version = sign(registry, str(registry.publish(adapter)), key)
    copy = tmp_path / "copy"
    shutil.copytree(version.path, copy)
    moved = replace(version, folder=lambda: copy)

    verify_signature(moved, public(key))  # it does not matter where the folder is, and how it is called
    (copy / ".gitattributes").write_text("* -text")
    with pytest.raises(RegistryError, match=r"\.gitattributes"):
        verify_signature(moved, public(key))


def test_a_true_signature_that_leaves_out_a_file_does_not_hold(
    registry: Registry, make_adapter: MakeAdapter, key: Path
) -> None:
    from model_signing import hashing
    from model_signing.signing import Config

    version = registry.publish(make_adapter(1))
    less = hashing.Config().set_ignored_paths(paths=["adapter_model.safetensors"])
    file = key.with_name("signature")
    Config().use_elliptic_key_signer(private_key=key).set_hashing_config(less).sign(version.path, file)
    registry.add_signature(version, read_fingerprint(public(key)), file.read_text())

    with pytest.raises(RegistryError, match=r"it leaves out adapter_model\.safetensors"):
        trusting(registry, key).resolve("medical/triage")


def test_the_librarys_own_command_line_agrees(registry: Registry, make_adapter: MakeAdapter, key: Path) -> None:
    version = sign(registry, str(registry.publish(make_adapter(1))), key)
    file = key.with_name("signature")
    file.write_text(next(iter(version.signatures.values())))
    words = ["verify", "key", str(version.path), "--signature", str(file), "--public_key", str(public(key))]

    done = subprocess.run([sys.executable, "-m", "model_signing", *words], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr


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


def test_a_signature_is_looked_at_once_in_a_process(
    registry: Registry, make_adapter: MakeAdapter, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign(registry, str(registry.publish(make_adapter(1))), key)
    seen = []
    once = signature_check.check_signature
    monkeypatch.setattr(signature_check, "check_signature", lambda *given: (seen.append(given), once(*given)))

    for _ in range(3):
        trusting(registry, key).resolve("medical/triage")
    assert len(seen) == 1


def test_what_is_no_fitting_key_is_told(registry: Registry, make_adapter: MakeAdapter, key: Path, tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ed25519

    registry.publish(make_adapter(1))
    made = ed25519.Ed25519PrivateKey.generate()
    text = made.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (tmp_path / "edwards").write_bytes(text)
    (tmp_path / "noise").write_bytes(b"\x00\xff")

    for name, told in {"edwards": "of another kind", "noise": "not a private key", "none": "cannot be read"}.items():
        with pytest.raises(RegistryError, match=told):
            sign(registry, "medical/triage", tmp_path / name)
    for file, told in {key: "is a private key", tmp_path / "noise": "not a public key", tmp_path: "cannot be read"}.items():
        with pytest.raises(RegistryError, match=told):
            read_fingerprint(file)


def test_without_the_extra_nothing_is_taken_for_signed(
    registry: Registry, make_adapter: MakeAdapter, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign(registry, str(registry.publish(make_adapter(1))), key)
    monkeypatch.setitem(sys.modules, "model_signing", None)

    with pytest.raises(MissingExtra, match=r"vertical_sdk\[sign\]"):
        trusting(registry, key).resolve("medical/triage")
    assert registry.resolve("medical/triage").number == 1
