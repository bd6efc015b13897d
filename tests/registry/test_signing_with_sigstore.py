"""Signatures with identities instead of keys, with a sigstore instance on 127.0.0.1."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from servers.sigstore_server import ISSUER, serving, token

from vertical_sdk.cli import main
from vertical_sdk.errors import OfflineError, RegistryError
from vertical_sdk.registry import Registry, signature_check
from vertical_sdk.registry.bundle import bundle, unbundle
from vertical_sdk.registry.identities import Identity, parse_identities
from vertical_sdk.registry.policy import Policy
from vertical_sdk.registry.signature_check import verify_identity
from vertical_sdk.registry.signing import sign_with_sigstore, signature_problems
from vertical_sdk.registry.store import SIGNATURE

MakeAdapter = Callable[..., Path]
ADA, EVE = Identity("ada@example.org", ISSUER), Identity("eve@example.org", ISSUER)


@pytest.fixture(autouse=True)
def _forget_checked_signatures() -> None:
    signature_check._valid.clear()


@pytest.fixture(scope="module")
def sigstore(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The configuration of a running instance."""
    with serving(tmp_path_factory.mktemp("sigstore")) as config:
        yield config


@pytest.fixture
def registry(tmp_path: Path, sigstore: Path, make_adapter: MakeAdapter) -> Registry:
    """A registry with two versions."""
    registry = Registry(tmp_path / "registry", Policy(sigstore=sigstore))
    for seed in (1, 2):
        registry.publish(make_adapter(seed))
    return registry


def trusting(registry: Registry, *who: Identity, sigstore: Path | None = None) -> Registry:
    return Registry(registry.location, Policy(trusted_identities=who, sigstore=sigstore or registry.policy.sigstore))


def put_unchecked(registry: Registry, number: int, text: str) -> None:
    """Store a signature as another program would."""
    event = registry.new_event("medical/triage", "sign")
    registry.store.tag("medical/triage", number, {SIGNATURE + ADA.fingerprint: text}, event)


def test_a_version_signed_by_a_trusted_identity_is_loaded(registry: Registry, tmp_path: Path) -> None:
    signed = sign_with_sigstore(registry, "medical/triage@1", token(ADA.name))

    assert list(signed.signatures) == [ADA.fingerprint]
    assert trusting(registry, EVE, ADA).resolve("medical/triage@1") == signed
    verify_identity(signed, ADA, registry.policy.sigstore)
    assert signature_problems(trusting(registry, ADA), "medical/triage@1") == []
    for other in (EVE, Identity(ADA.name, "https://accounts.example.com")):
        with pytest.raises(RegistryError, match=rf"signed by {ADA.fingerprint[:16]}…, which is not trusted\. Trusted: {other}"):
            trusting(registry, other).resolve("medical/triage@1")
    with pytest.raises(RegistryError, match=r"medical/triage@2 is not signed"):
        trusting(registry, ADA).resolve("medical/triage@2")


def test_a_signature_is_valid_without_network_and_in_a_bundle(tmp_path: Path, make_adapter: MakeAdapter) -> None:
    registry = Registry(tmp_path / "registry")
    registry.publish(make_adapter(1))
    with serving(tmp_path) as config:
        sign_with_sigstore(Registry(registry.location, Policy(sigstore=config)), "medical/triage", token(ADA.name))

    bundle(registry, ["medical/triage"], tmp_path / "b.zip")
    copy = Registry(tmp_path / "copy", Policy(trusted_identities=(ADA,), sigstore=config))
    unbundle(tmp_path / "b.zip", copy)
    assert copy.resolve("medical/triage").number == 1


def test_a_sigstore_signature_of_another_version_is_rejected(registry: Registry) -> None:
    signed = sign_with_sigstore(registry, "medical/triage@1", token(ADA.name))
    stolen = signed.signatures[ADA.fingerprint]

    with pytest.raises(RegistryError, match="is not valid, so it is not stored: adapter_model"):
        registry.add_signature(registry.resolve("medical/triage@2"), ADA.fingerprint, stolen)
    put_unchecked(registry, 2, stolen)
    with pytest.raises(
        RegistryError, match=r"medical/triage@2: its signature by ada@example.org of .* is not valid: .*adapter_model"
    ):
        trusting(registry, ADA).resolve("medical/triage@2")
    (problem,) = signature_problems(registry)
    assert "medical/triage@2" in problem


def test_a_signature_of_another_identity_is_rejected(registry: Registry) -> None:
    signed = sign_with_sigstore(registry, "medical/triage@1", token(EVE.name))
    stolen = signed.signatures[EVE.fingerprint]

    with pytest.raises(RegistryError, match="is not valid, so it is not stored: it names"):
        registry.add_signature(signed, ADA.fingerprint, stolen)
    put_unchecked(registry, 1, stolen)
    with pytest.raises(RegistryError, match=f"is malformed: it names {EVE.fingerprint[:16]}… as its signer"):
        trusting(registry, ADA).resolve("medical/triage@1")


def test_a_signature_of_another_sigstore_instance_is_rejected(registry: Registry, tmp_path: Path) -> None:
    with serving(tmp_path) as own:
        sign_with_sigstore(Registry(registry.location, Policy(sigstore=own)), "medical/triage@1", token(ADA.name))

    assert trusting(registry, ADA, sigstore=own).resolve("medical/triage@1").number == 1
    signature_check._valid.clear()
    with pytest.raises(RegistryError, match=r"its signature by ada@example\.org of .* is not valid"):
        trusting(registry, ADA).resolve("medical/triage@1")


@pytest.mark.parametrize("damage", ["no log entry", "no certificate", "other payload"])
def test_a_damaged_sigstore_signature_is_rejected(damage: str, registry: Registry) -> None:
    signed = sign_with_sigstore(registry, "medical/triage@1", token(ADA.name))
    text = json.loads(signed.signatures[ADA.fingerprint])
    if damage == "no log entry":
        text["verificationMaterial"]["tlogEntries"] = []
    elif damage == "no certificate":
        del text["verificationMaterial"]["certificate"]
    else:
        other = sign_with_sigstore(registry, "medical/triage@2", token(ADA.name))
        text["dsseEnvelope"]["payload"] = json.loads(other.signatures[ADA.fingerprint])["dsseEnvelope"]["payload"]

    with pytest.raises(RegistryError, match="is not valid, so it is not stored"):
        registry.add_signature(signed, ADA.fingerprint, json.dumps(text))
    put_unchecked(registry, 1, json.dumps(text))
    with pytest.raises(RegistryError, match=r"medical/triage@1: its signature by ada@example.org"):
        trusting(registry, ADA).resolve("medical/triage@1")


def test_an_unreachable_sigstore_is_reported(tmp_path: Path, registry: Registry) -> None:
    with serving(tmp_path) as gone:
        pass
    alone = Registry(registry.location, Policy(sigstore=gone))

    with pytest.raises(
        OfflineError, match=r"the sigstore instance of .* cannot be reached.*sign with a key, which needs no network"
    ):
        sign_with_sigstore(alone, "medical/triage", token(ADA.name))
    with pytest.raises(OfflineError, match="or refused the request"):
        sign_with_sigstore(registry, "medical/triage", "not a token")
    with pytest.raises(RegistryError, match="sigstore configuration does not exist"):
        sign_with_sigstore(Registry(registry.location, Policy(sigstore=tmp_path / "none")), "medical/triage")
    assert alone.resolve("medical/triage").signatures == {}


def test_parse_identities_reads_names_and_providers() -> None:
    workflow = "https://github.com/a/b/.github/workflows/c.yml@refs/heads/main"
    identities = parse_identities(f"{ADA.name} {ISSUER}, {workflow}  https://token.actions.githubusercontent.com,", "here")

    assert identities == (ADA, Identity(workflow, "https://token.actions.githubusercontent.com"))
    assert parse_identities("", "here") == ()
    with pytest.raises(RegistryError, match=r"here: 'ada@example\.org' has no provider"):
        parse_identities("ada@example.org", "here")


def test_the_command_line_signs_with_sigstore_and_requires_the_signature(
    registry: Registry, sigstore: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--registry", registry.location, "--json"]
    monkeypatch.setenv("VERTICAL_SIGSTORE", str(sigstore))
    monkeypatch.setenv("VERTICAL_TRUSTED_IDENTITIES", f"{ADA.name} {ISSUER}")
    monkeypatch.setenv("SIGSTORE_IDENTITY_TOKEN", token(ADA.name))

    assert main(["registry", "sign", "medical/triage", "--sigstore", "--key", "x", *where]) == 2
    assert main(["registry", "sign", "medical/triage", *where]) == 2
    assert main(["registry", "show", "medical/triage", *where]) == 7
    capsys.readouterr()
    assert main(["registry", "sign", "medical/triage", "--sigstore", *where]) == 0
    assert json.loads(capsys.readouterr().out)["signed_by"] == [ADA.fingerprint]
    assert main(["registry", "show", "medical/triage", *where]) == 0
    assert main(["registry", "verify", "medical/triage", *where]) == 0
