"""Signatures that do not hold: no way into a registry stores one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from registry.conftest import write_adapter
from server.conftest import Served, Server, served, server  # noqa: F401  (the fixtures)

from vertical_sdk.errors import RegistryError
from vertical_sdk.registry import Registry, Version
from vertical_sdk.registry.bundle import bundle, unbundle
from vertical_sdk.registry.copying import copy_versions
from vertical_sdk.registry.keys import create_key_pair, read_fingerprint
from vertical_sdk.registry.policy import Policy
from vertical_sdk.registry.signature_check import MOST, check_signatures
from vertical_sdk.registry.signing import sign, sign_revocation, signature_problems
from vertical_sdk.registry.store import REVOCATION, REVOKED, SIGNATURE

NAME = "medical/triage"


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    registry = Registry(tmp_path / "origin", Policy())
    for seed in (1, 2):
        registry.publish(write_adapter(tmp_path / f"adapter-{seed}", seed))
    return registry


@pytest.fixture
def ada(tmp_path: Path) -> Path:
    """The private key of a trusted signer."""
    create_key_pair(tmp_path / "ada")
    return tmp_path / "ada"


@pytest.fixture
def eve(tmp_path: Path) -> Path:
    create_key_pair(tmp_path / "eve")
    return tmp_path / "eve"


def fingerprint(key: Path) -> str:
    return read_fingerprint(key.with_name(f"{key.name}.pub"))


def trusting(location: str | Path, key: Path) -> Registry:
    return Registry(location, Policy(trusted_keys=(key.with_name(f"{key.name}.pub"),)))


def forge(registry: Registry, ada: Path, eve: Path, scratch: Path) -> dict[str, str]:
    """Texts that claim to be ada's signature of version 1: kind → text."""
    other = Registry(scratch / "scratch", Policy())
    copy_versions(registry, other)
    by_eve = sign(other, f"{NAME}@1", eve).signatures[fingerprint(eve)]
    of_another = sign(other, f"{NAME}@2", ada).signatures[fingerprint(ada)]
    true = sign(other, f"{NAME}@1", ada).signatures[fingerprint(ada)]
    bundle_ = json.loads(true)
    twice = {**bundle_, "dsseEnvelope": {**bundle_["dsseEnvelope"], "signatures": bundle_["dsseEnvelope"]["signatures"] * 2}}
    return {
        "renamed": by_eve.replace(fingerprint(eve), fingerprint(ada)),
        "of another version": of_another,
        "not a signature": "x",
        "deep": "[" * 30_000,
        "two signatures": json.dumps(twice),
        "other type": true.replace("application/vnd.in-toto+json", "text/plain"),
        "too long": true + " " * 32_000,
    }


KINDS = ["renamed", "of another version", "not a signature", "deep", "two signatures", "other type", "too long"]


def put_unchecked(registry: Registry, made_by: str, text: str, number: int = 1) -> Version:
    """Store a text as another program would."""
    registry.store.tag(NAME, number, {SIGNATURE + made_by: text}, registry.new_event(NAME, "sign"))
    return registry.resolve(f"{NAME}@{number}", check=False)


@pytest.mark.parametrize("kind", KINDS)
def test_an_invalid_signature_is_not_stored(kind: str, registry: Registry, ada: Path, eve: Path, tmp_path: Path) -> None:
    text = forge(registry, ada, eve, tmp_path)[kind]

    with pytest.raises(RegistryError, match=rf"{NAME}@1: the signature by {fingerprint(ada)[:16]}… is not valid, so it is not"):
        registry.add_signature(registry.resolve(f"{NAME}@1"), fingerprint(ada), text)
    assert registry.resolve(f"{NAME}@1").signatures == {}


def test_a_server_refuses_an_invalid_signature_and_accepts_a_valid_one(
    served: Served,  # noqa: F811
    registry: Registry, ada: Path, eve: Path, tmp_path: Path,
) -> None:  # fmt: skip
    copy_versions(registry, served.registry)
    texts = forge(registry, ada, eve, tmp_path)
    squatted = {"name": NAME, "version": 1, "fingerprint": fingerprint(ada), "signature": texts["renamed"]}

    refused = served.ask("POST", "/api/v1/signatures", "publisher", json=squatted)

    assert refused.status_code in {400, 404, 409, 422}
    assert "another key made it, or it was changed" in refused.json()["error"]["message"]
    true = sign(registry, f"{NAME}@1", ada).signatures[fingerprint(ada)]
    assert served.ask("POST", "/api/v1/signatures", "publisher", json={**squatted, "signature": true}).status_code == 200
    assert served.registry.resolve(f"{NAME}@1").signatures == {fingerprint(ada): true}


def test_copies_and_bundles_leave_invalid_signatures_out(registry: Registry, ada: Path, eve: Path, tmp_path: Path) -> None:
    put_unchecked(registry, fingerprint(ada), forge(registry, ada, eve, tmp_path)["renamed"])
    sign(registry, f"{NAME}@1", eve)
    bundle(registry, [f"{NAME}@1"], tmp_path / "b.zip")
    copied, unpacked = Registry(tmp_path / "copy", Policy()), Registry(tmp_path / "unpacked", Policy())

    reports = [copy_versions(registry, copied), unbundle(tmp_path / "b.zip", unpacked, trust_notes=True)]

    for report, target in zip(reports, (copied, unpacked), strict=True):
        assert list(target.resolve(f"{NAME}@1").signatures) == [fingerprint(eve)]
        assert any("was left out" in note and "another key made it" in note for note in report.notes)


def test_a_valid_signature_replaces_an_invalid_one(registry: Registry, ada: Path, eve: Path, tmp_path: Path) -> None:
    target = Registry(tmp_path / "target", Policy())
    copy_versions(registry, target)
    squatted = put_unchecked(target, fingerprint(ada), forge(registry, ada, eve, tmp_path)["renamed"])
    assert [s.state for s in check_signatures(squatted, target.store.manifest(squatted.digest), Policy())] == ["invalid"]
    assert "another key made it" in signature_problems(target)[0]
    with pytest.raises(RegistryError, match="another key made it"):
        trusting(target.location, ada).resolve(f"{NAME}@1")

    sign(registry, f"{NAME}@1", ada)
    copy_versions(registry, target)

    assert trusting(target.location, ada).resolve(f"{NAME}@1").number == 1
    put_unchecked(target, fingerprint(ada), "x")
    assert sign(target, f"{NAME}@1", ada).signatures
    assert trusting(target.location, ada).resolve(f"{NAME}@1").number == 1


def test_a_version_has_at_most_twenty_signatures_and_those_of_trusted_keys(
    registry: Registry, ada: Path, eve: Path, tmp_path: Path
) -> None:
    put_unchecked(registry, "0" * 64, "x")
    for number in range(MOST):
        create_key_pair(tmp_path / f"key-{number}")
        version = sign(registry, f"{NAME}@1", tmp_path / f"key-{number}")
    assert "0" * 64 not in version.signatures  # the invalid one made room

    with pytest.raises(RegistryError, match=r"has 20 signatures; at most 20 are stored"):
        sign(registry, f"{NAME}@1", eve)
    assert sign(registry, f"{NAME}@1", tmp_path / "key-3").signatures.keys() == version.signatures.keys()
    assert fingerprint(ada) in sign(trusting(registry.location, ada), f"{NAME}@1", ada).signatures


@pytest.mark.parametrize("curve", ["SECP256R1", "SECP384R1", "SECP521R1"])
def test_a_signature_is_verified_without_the_file_of_its_key(curve: str, registry: Registry, tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization as s
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(getattr(ec, curve)())
    (tmp_path / "key").write_bytes(key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption()))
    public = key.public_key().public_bytes(s.Encoding.PEM, s.PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "key.pub").write_bytes(public)

    version = sign(registry, f"{NAME}@1", tmp_path / "key")

    (checked,) = check_signatures(version, registry.store.manifest(version.digest), Policy())
    assert (checked.made_by, checked.state) == (fingerprint(tmp_path / "key"), "valid")
    (checked,) = check_signatures(
        version, registry.store.manifest(version.digest), trusting(registry.location, tmp_path / "key").policy
    )
    assert checked.state == "trusted"
    assert signature_problems(registry) == []


def test_a_page_says_which_signatures_are_valid_and_trusted(
    served: Served,  # noqa: F811
    registry: Registry, ada: Path, eve: Path, tmp_path: Path,
) -> None:  # fmt: skip
    copy_versions(registry, served.registry)
    put_unchecked(served.registry, fingerprint(ada), forge(registry, ada, eve, tmp_path)["renamed"])
    sign(served.registry, f"{NAME}@1", eve)

    page = served.ask("GET", f"/a/{NAME}@1", "reader").text

    assert f"<code>{fingerprint(ada)}</code> <b>not valid</b>: another key made it" in page
    assert f"<code>{fingerprint(eve)}</code> valid; this server does not trust the key" in page
    assert "Signed by" not in page


# ── signed revocations ────────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_signed_revocation_holds_where_its_key_is_trusted(registry: Registry, ada: Path, eve: Path, tmp_path: Path) -> None:
    for number in (1, 2):
        sign(registry, f"{NAME}@{number}", ada)
    sign_revocation(registry, f"{NAME}@1", "wrong labels", ada)
    copy = Registry(f"memory://{tmp_path.name}", Policy())
    copy_versions(registry, copy)
    for target in (registry, copy):  # remove the registry's own mark, as the log records
        target.store.tag(NAME, 1, {REVOKED: None}, target.new_event(NAME, "tag"))

        assert target.resolve(f"{NAME}@1").number == 1  # a user without trusted keys believes the registry
        with pytest.raises(RegistryError, match=rf"{NAME}@1 was revoked: wrong labels"):
            trusting(target.location, ada).resolve(f"{NAME}@1")
        assert trusting(target.location, ada).resolve(f"{NAME}@2").number == 2
        assert target.verify() == []


def test_a_signed_revocation_that_is_not_valid_is_refused(registry: Registry, ada: Path, eve: Path, tmp_path: Path) -> None:
    scratch = Registry(tmp_path / "scratch", Policy())
    copy_versions(registry, scratch)
    sign_revocation(scratch, f"{NAME}@2", "wrong labels", eve)
    (text,) = [v for k, v in scratch.store.versions(NAME)[1].tags.items() if k.startswith(REVOCATION)]
    version, first = registry.resolve(f"{NAME}@2"), registry.resolve(f"{NAME}@1")

    for wrong in (
        text.replace(fingerprint(eve), fingerprint(ada)),
        text.replace("wrong labels", "another reason"),
        "x",
        "[" * 3000,
        "{}",
    ):
        with pytest.raises(RegistryError, match="signed revocation"):
            registry.add_revocation(version, wrong)
    with pytest.raises(RegistryError, match=r"this signed revocation is of sha256:"):
        registry.add_revocation(first, text)
    assert registry.resolve(f"{NAME}@2").revoked is None
    assert registry.add_revocation(version, text).revoked == "wrong labels"


def test_a_server_accepts_a_signed_revocation(
    served: Served,  # noqa: F811
    registry: Registry, ada: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    copy_versions(registry, served.registry)
    monkeypatch.setenv("VERTICAL_TOKEN", served.secrets["boss"])
    client = Registry(served.address, Policy())

    assert sign_revocation(client, f"{NAME}@1", "wrong labels", ada).revoked == "wrong labels"
    tags = served.registry.store.versions(NAME)[0].tags
    assert {REVOKED, REVOCATION + fingerprint(ada)} <= tags.keys()
    client.close()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(
            (name, "")
            for name in ("VERTICAL_TRUSTED_KEYS", "VERTICAL_TRUSTED_IDENTITIES", "VERTICAL_LICENSES", "VERTICAL_SIGSTORE")
        ),
        ("VERTICAL_TRUSTED_KEYS", ":"),
        ("VERTICAL_TRUSTED_IDENTITIES", " , "),
        ("VERTICAL_LICENSES", ","),
    ],
)
def test_a_policy_that_is_set_but_empty_is_refused(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)

    with pytest.raises(RegistryError, match=rf"\${name}: this variable is set but empty"):
        Policy.from_environment()
    monkeypatch.delenv(name)
    assert not Policy.from_environment().requires_signature
