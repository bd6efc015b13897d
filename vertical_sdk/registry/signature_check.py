"""Checking signatures of versions with OpenSSF's model-signing; `registry.signing` describes and makes them."""

from __future__ import annotations

import base64
import hashlib
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, TypeVar

from vertical_sdk.errors import OfflineError, RegistryError, VerticalError
from vertical_sdk.json_text import parse_json
from vertical_sdk.registry.identities import Identity, read_identity
from vertical_sdk.registry.keys import missing_sign_extra, read_fingerprint, recover_public_key
from vertical_sdk.registry.policy import Policy
from vertical_sdk.registry.store import Manifest
from vertical_sdk.registry.version import Version

__all__ = [
    "LONGEST",
    "MOST",
    "SHOWN",
    "CheckedSignature",
    "Signer",
    "call_sigstore",
    "check_new_signature",
    "check_signature",
    "check_signatures",
    "compare_files",
    "find_invalid",
    "load_model_signing",
    "read_statement",
    "require_signature",
    "trusted_signers",
    "verify_identity",
    "verify_signature",
]

SHOWN = 16
"""Digits of a fingerprint that are shown."""
LONGEST = 32_000
"""Characters of a signature that every store can hold; enough for about 120 files."""
MOST = 20
"""Signatures of a version, besides those of trusted keys."""
IN_TOTO = "application/vnd.in-toto+json"
T = TypeVar("T")
PREDICATE = "https://model_signing/signature/v1.0"

_valid: set[tuple[str, str, str]] = set()
"""Digest of a version, of its signature and of the signer: the signatures that this process has found valid."""


@dataclass(frozen=True, slots=True)
class Signer:
    """A trusted signer: its fingerprint, its name in messages, and how a `model_signing.verifying.Config` checks it."""

    made_by: str
    shown: str
    configure: Callable[[Any], Any]

    def __str__(self) -> str:
        return f"{self.shown} ({self.made_by[:SHOWN]}…)"


def require_signature(version: Version, policy: Policy) -> None:
    """Check that a signer trusted by the policy signed the version. A valid signature is checked once in a process.

    The caller has compared the files with the digest, as `Registry.resolve` does.
    Raises RegistryError with the trusted signers, the actual signers and what is wrong with a trusted signature; OfflineError if
    sigstore is needed and cannot be reached; MissingExtra.
    """
    trusted = trusted_signers(policy)
    problems = []
    for made_by in sorted(trusted.keys() & version.signatures.keys()):
        key = (version.digest, hashlib.sha256(version.signatures[made_by].encode()).hexdigest(), made_by)
        if key in _valid:
            return
        try:
            check_signature(version, trusted[made_by])
        except RegistryError as error:
            problems.append(str(error))
        else:
            _valid.add(key)
            return
    if problems:
        raise RegistryError(" ".join(problems))
    signers = ", ".join(f"{name[:SHOWN]}…" for name in sorted(version.signatures))
    known = ", ".join(str(signer) for signer in trusted.values())
    raise RegistryError(
        f"{version} is {f'signed by {signers}, which is not trusted' if signers else 'not signed'}. Trusted: {known}. "
        f"Sign it with a trusted key: vertical registry sign {version} --key FILE."
    )


def verify_signature(version: Version, public_key: Path) -> None:
    """Check that a public key signed exactly the files now in the version's folder. Every file is read again.

    Raises RegistryError if the key did not sign it, if the signature was made by another key or is cut, or if it is for other files;
    MissingExtra.
    """
    check_signature(version, _key_signer(public_key))


def verify_identity(version: Version, identity: Identity, sigstore: Path | None = None) -> None:
    """Check a signature made with sigstore, as `verify_signature` does for a key.

    sigstore  the configuration of a private sigstore instance; None means the public one, which is queried for its current keys

    Raises OfflineError if it cannot be reached, and what `verify_signature` raises.
    """
    check_signature(version, _identity_signer(identity, sigstore))


def trusted_signers(policy: Policy) -> dict[str, Signer]:
    """The keys and identities that a policy trusts, by fingerprint."""
    keys = [_key_signer(file) for file in policy.trusted_keys]
    identities = [_identity_signer(identity, policy.sigstore) for identity in policy.trusted_identities]
    return {signer.made_by: signer for signer in (*keys, *identities)}


def check_signature(version: Version, signer: Signer) -> None:
    """Check a version's signature by one signer. Raises RegistryError, OfflineError, MissingExtra."""
    text = version.signatures.get(signer.made_by)
    if text is None:
        raise RegistryError(f"{version} is not signed by {signer}.")
    title = f"{version}: its signature by {signer}"
    try:
        statement = read_statement(text, signer.made_by)[1]
    except ValueError as error:
        raise RegistryError(f"{title} is malformed: {error}. Sign it again.") from None
    problem = _verify(version.path, text, signer)
    left_out = sorted(version.manifest.keys() - statement.keys())
    if not problem and left_out:
        problem = f"it does not cover {', '.join(left_out[:3])}"
    # what is loaded are the files of the manifest, so these are compared, and not what is in the folder now
    problem = problem or compare_files(statement, {path: file.sha256 for path, file in version.manifest.items()})
    if problem:
        raise RegistryError(f"{title} is not valid: {problem}. Use another version, or let its signer sign it again.")


@dataclass(frozen=True, slots=True)
class CheckedSignature:
    """A signature of a version, and what this machine can say about it.

    state  "trusted": valid, and the policy trusts its key; "valid": it is valid, by a key that the policy does not name; "unchecked":
           it needs the network, or the extra 'sign' is not installed; "invalid"
    """

    made_by: str
    state: Literal["trusted", "valid", "unchecked", "invalid"]
    problem: str = ""


def check_signatures(version: Version, manifest: Manifest, policy: Policy) -> list[CheckedSignature]:
    """Check all signatures of a version without the network: that each key signed exactly the files of the manifest."""
    checked = []
    for made_by, text in sorted(version.signatures.items()):
        try:
            trusted = {read_fingerprint(file) for file in policy.trusted_keys}
            problem = find_invalid(text, made_by, manifest)
        except VerticalError as error:
            checked.append(CheckedSignature(made_by, "unchecked", error.message))
            continue
        if problem is None:
            checked.append(
                CheckedSignature(made_by, "unchecked", "a signature made with sigstore is checked when it is loaded")
            )
        elif problem:
            checked.append(CheckedSignature(made_by, "invalid", problem))
        else:
            checked.append(CheckedSignature(made_by, "trusted" if made_by in trusted else "valid"))
    return checked


def check_new_signature(version: Version, made_by: str, text: str, manifest: Manifest, policy: Policy) -> None:
    """Check a signature before it is stored: its signer signed exactly the files of the version.

    A key's signature is verified without the key's file, as the key follows from signature and fingerprint
    (`keys.recover_public_key`). One made with sigstore is verified with sigstore, which needs the network.

    Raises RegistryError if it is not valid; OfflineError if sigstore cannot be reached; MissingExtra.
    """
    problem: str | None = f"it has {len(text)} characters; at most {LONGEST} are stored" if len(text) > LONGEST else ""
    problem = problem or find_invalid(text, made_by, manifest)
    if problem is None:
        identity = _read_signing_identity(text)
        assert identity is not None  # find_invalid has read it
        problem = _verify(version.path, text, _identity_signer(identity, policy.sigstore))
    if problem:
        raise RegistryError(f"{version}: the signature by {made_by[:SHOWN]}… is not valid, so it is not stored: {problem}.")


def find_invalid(text: str, made_by: str, manifest: Manifest) -> str | None:
    """What is wrong with a signature, "" if a key made it for these files; None if it was made with sigstore.

    Raises MissingExtra.
    """
    try:
        files = read_statement(text, made_by)[1]
    except ValueError as error:
        return str(error)
    difference = compare_files(files, {path: file.sha256 for path, file in manifest.items()})
    if difference:
        return difference
    if _read_signing_identity(text) is not None:
        return None
    return _find_wrong_key(text, made_by)


@lru_cache(maxsize=512)
def _find_wrong_key(text: str, made_by: str) -> str:
    """Why a readable signature was not made by the key with a fingerprint; "" if it was."""
    envelope = parse_json(text)["dsseEnvelope"]
    try:
        (signature,) = envelope["signatures"]
        signed = base64.b64decode(signature["sig"], validate=True)
        payload, kind = base64.b64decode(envelope["payload"], validate=True), envelope["payloadType"]
    except (ValueError, KeyError, TypeError):
        return "it does not contain one signature"
    message = b"DSSEv1 %d %s %d %s" % (len(IN_TOTO), IN_TOTO.encode(), len(payload), payload)
    if kind == IN_TOTO and recover_public_key(signed, message, made_by) is not None:
        return ""
    return "another key made it, or it was changed"


def _read_signing_identity(text: str) -> Identity | None:
    """The identity that a readable signature names; None if a key made it."""
    material = parse_json(text)["verificationMaterial"]
    if material.get("publicKey"):
        return None
    return read_identity(base64.b64decode(material["certificate"]["rawBytes"], validate=True))


def call_sigstore(action: Callable[[], T], sigstore: Path | None) -> T:
    """Run an action that needs sigstore. Raises OfflineError if it fails, RegistryError if its configuration does not exist."""
    if sigstore is not None and not sigstore.is_file():
        message = "this sigstore configuration does not exist. Correct $VERTICAL_SIGSTORE."
        raise RegistryError(message, where=sigstore)
    try:
        return action()
    except Exception as error:  # the libraries below raise dozens of kinds
        reason = " ".join(str(error).split()) or type(error).__name__
        service = f"the sigstore instance of {sigstore}" if sigstore is not None else "sigstore"
        raise OfflineError(
            f"{service} cannot be reached, or refused the request ({reason[:300]}). "
            "Try again with a network, or sign with a key, which needs no network: vertical registry sign REFERENCE --key FILE."
        ) from error


def load_model_signing() -> tuple[Any, Any, Any]:
    """Import `signing` and `verifying`, and configure the hashing of all files, also of those that git would ignore."""
    try:
        from model_signing import hashing, signing, verifying
    except ImportError:
        raise missing_sign_extra() from None
    config: Any = hashing.Config
    return signing, verifying, config().set_ignored_paths(paths=(), ignore_git_paths=False)


def read_statement(text: str, made_by: str | None = None) -> tuple[str, dict[str, str]]:
    """Read the signer and path → SHA-256 from a signature, without verifying it.

    Raises ValueError if the text is cut or malformed.
    """
    try:
        bundle = parse_json(text)
        material = bundle["verificationMaterial"]
        key, certificate = material.get("publicKey"), material.get("certificate")
        signer = key["hint"] if key else read_identity(base64.b64decode(certificate["rawBytes"], validate=True)).fingerprint
        payload = parse_json(base64.b64decode(bundle["dsseEnvelope"]["payload"], validate=True))
        kind, predicate = payload["predicateType"], payload["predicate"]
        method = predicate["serialization"]["method"], predicate["serialization"]["hash_type"]
        files = {resource["name"]: resource["digest"] for resource in predicate["resources"]}
        count = len(predicate["resources"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ValueError("it is cut, or is not a sigstore bundle over files") from None
    if made_by is not None and signer != made_by:
        raise ValueError(f"it names {str(signer)[:SHOWN]}… as its signer")
    plain = all(isinstance(word, str) for pair in files.items() for word in pair)
    if kind != PREDICATE or method != ("files", "sha256") or count != len(files) or not plain:
        raise ValueError("it does not list the SHA-256 of each file")
    return str(signer), files


def compare_files(signed: Mapping[str, str], files: Mapping[str, str]) -> str:
    """How the signed files differ from these files; "" if they are equal."""
    changed = sorted(path for path in signed.keys() & files.keys() if signed[path] != files[path])
    differences = [
        (changed, "was changed"),
        (sorted(signed.keys() - files.keys()), "was removed"),
        (sorted(files.keys() - signed.keys()), "was added"),
    ]
    return "; ".join(f"{path} {change}" for paths, change in differences for path in paths[:2])


def _key_signer(file: Path) -> Signer:
    return Signer(read_fingerprint(file), str(file), lambda config: config.use_elliptic_key_verifier(public_key=file))


def _identity_signer(identity: Identity, sigstore: Path | None) -> Signer:
    def configure(config: Any) -> Any:
        options = {"identity": identity.name, "oidc_issuer": identity.issuer, "trust_config": sigstore}
        return call_sigstore(lambda: config.use_sigstore_verifier(**options), sigstore)

    return Signer(identity.fingerprint, str(identity), configure)


def _verify(folder: Path, text: str, signer: Signer) -> str:
    """Why a signature is not valid for a folder; "" if it is valid."""
    _, verifying, hashing = load_model_signing()
    from cryptography.exceptions import InvalidSignature

    with tempfile.TemporaryDirectory() as temporary:
        file = Path(temporary) / "signature"
        file.write_text(text, encoding="utf-8")
        verifier = signer.configure(verifying.Config()).set_hashing_config(hashing)
        try:
            verifier.verify(folder, file)
        except InvalidSignature:
            return "another key made it, or it was changed"
        except Exception as error:  # noqa: BLE001  (any error of the library means that the signature is not valid)
            return " ".join(str(error).split()) or type(error).__name__
    return ""
