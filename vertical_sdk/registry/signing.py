"""Signatures: who vouches for the files of a version. They are made and checked by OpenSSF's model-signing.

A signature is a sigstore bundle, the text that `model_signing sign` writes: an in-toto statement of every file's path and SHA-256.
It says nothing of names, numbers and places, so that it holds in every registry that the files are copied to; the card, which has the
adapter's name in it, is one of the files. It is made with a key of one's own, which needs no network, or with sigstore, where an
identity provider says who signs, a key lives for minutes, and a public log remembers it. The registry keeps it beside the version
under the fingerprint of the key, or of the identity.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vertical_sdk.errors import CorruptAdapter, OfflineError, RegistryError, VerticalError
from vertical_sdk.registry.identities import Identity, read_identity
from vertical_sdk.registry.keys import read_fingerprint, compute_fingerprint, is_encrypted, missing_sign_extra, read_private_key
from vertical_sdk.registry.policy import Policy
from vertical_sdk.registry.registry import Registry
from vertical_sdk.registry.tree import tree_problems
from vertical_sdk.registry.version import Version

__all__ = ["require_signature", "sign", "sign_with_sigstore", "signature_problems", "verify_identity", "verify_signature"]

LONGEST = 32_000
"""Characters of a signature that every store can keep; about 120 files."""
SHOWN = 16
"""Digits of a fingerprint that are shown."""
PREDICATE = "https://model_signing/signature/v1.0"

TOKEN = "SIGSTORE_IDENTITY_TOKEN"  # noqa: S105  (the variable's name)
"""An identity provider's token, as sigstore's own command line calls the variable."""

_held: set[tuple[str, str, str]] = set()
"""Digest of a version, its signature's and its signer's: what this process has found to hold."""


@dataclass(frozen=True, slots=True)
class _Signer:
    """Whose signature counts: what it is kept under, how it is told, and how a `model_signing.verifying.Config` checks it."""

    made_by: str
    shown: str
    check: Callable[[Any], Any]

    def __str__(self) -> str:
        return f"{self.shown} ({self.made_by[:SHOWN]}…)"


def sign(registry: Registry, reference: str, key: Path, password: str = "") -> Version:
    """Sign a version's files with a private key, and keep the signature beside it; one that the key made before is replaced.

    key       an elliptic curve's private key in PEM (`keys.create_key_pair` makes one)
    password  its passphrase, where it has one

    Raises RegistryError where there is no such version, it was revoked, or the key cannot be used; CorruptAdapter where a file of the
    version has changed; MissingExtra.
    """
    made_by = compute_fingerprint(read_private_key(key, password).public_key())
    words = password.encode() if is_encrypted(key) else None

    def make(signing: Any) -> Any:
        return signing.Config().use_elliptic_key_signer(private_key=key, password=words)

    return _signed(registry, reference, make, made_by)


def sign_with_sigstore(registry: Registry, reference: str, token: str = "") -> Version:
    """Sign a version's files as somebody whom an identity provider knows, and keep the signature beside it. Needs the network.

    token  the provider's; `$SIGSTORE_IDENTITY_TOKEN` where there is none, or what the machine knows of itself (as GitHub's do), or
           else the user is asked in a browser

    Who signed, and a digest of what, is written into sigstore's public log for ever, unless the policy names a sigstore of one's own.
    Raises OfflineError where it cannot be reached or does not accept the identity, and what `sign` raises.
    """
    own = registry.policy.sigstore
    token = token or os.environ.get(TOKEN, "")

    def make(signing: Any) -> Any:
        asked = {"identity_token": token or None, "use_ambient_credentials": not token}
        return _reached(lambda: signing.Config().use_sigstore_signer(trust_config=own, **asked), own)

    return _signed(registry, reference, make, None)


def require_signature(version: Version, policy: Policy) -> None:
    """See that one of those whom a policy trusts signed the version. What was found to hold is not looked at again in this process.

    The caller has compared the files with the digest, as `Registry.resolve` does.
    Raises RegistryError that says who is trusted, who signed it, and what is wrong with a signature that would count; OfflineError
    where sigstore is needed and cannot be reached; MissingExtra.
    """
    trusted = _trusted(policy)
    wrong = []
    for made_by in sorted(trusted.keys() & version.signatures.keys()):
        told = (version.digest, hashlib.sha256(version.signatures[made_by].encode()).hexdigest(), made_by)
        if told in _held:
            return
        try:
            _verify(version, trusted[made_by])
        except RegistryError as error:
            wrong.append(str(error))
        else:
            _held.add(told)
            return
    if wrong:
        raise RegistryError(" ".join(wrong))
    signed = ", ".join(f"{name[:SHOWN]}…" for name in sorted(version.signatures))
    known = ", ".join(str(signer) for signer in trusted.values())
    raise RegistryError(
        f"{version} is {f'signed by {signed}, none of whom is trusted' if signed else 'not signed'}. Trusted: {known}. "
        f"Have it signed: vertical registry sign {version} --key FILE."
    )


def verify_signature(version: Version, public_key: Path) -> None:
    """See that a public key signed exactly the files that the version's folder has now; every file is read anew.

    Raises RegistryError where the key did not sign it, the signature is not the key's or is cut, or it is over other files; MissingExtra.
    """
    _verify(version, _key(public_key))


def verify_identity(version: Version, identity: Identity, sigstore: Path | None = None) -> None:
    """As `verify_signature`, for somebody who signed with sigstore.

    sigstore  the configuration of a sigstore of one's own; else the public one, which is asked for its present keys

    Raises OfflineError where it cannot be reached, and what `verify_signature` raises.
    """
    _verify(version, _identity(identity, sigstore))


def signature_problems(registry: Registry, reference: str | None = None) -> list[str]:
    """What is wrong with the signatures of a version, or of all, a sentence each.

    One of somebody trusted (`registry.policy`) is checked in full. Of another's only what it says can be compared with the version's
    files. Where somebody is trusted, a version that none of them signed is told too.
    """
    trusted = _trusted(registry.policy)
    versions = (
        [registry.resolve(reference, check=False)]
        if reference is not None
        else [version for name in registry.store.names() for version in registry.versions(name)]
    )
    found = []
    for version in versions:
        found += [_wrong(registry, version, made_by, trusted.get(made_by)) for made_by in sorted(version.signatures)]
        if trusted and not trusted.keys() & version.signatures.keys():
            found.append(f"{version} is signed by nobody who is trusted")
    return [line for line in found if line]


def _wrong(registry: Registry, version: Version, made_by: str, signer: _Signer | None) -> str:
    """What is wrong with a signature; nothing if all is well."""
    try:
        if signer is not None:
            _verify(version, signer)
            return ""
        files = {path: file.sha256 for path, file in registry.store.manifest(version.digest).items()}
        wrong = _other_files(_statement(version.signatures[made_by], made_by)[1], files)
    except VerticalError as error:
        return str(error)
    except ValueError as error:
        wrong = str(error)
    return wrong and f"{version}: its signature by {made_by[:SHOWN]}… does not hold: {wrong}"


def _trusted(policy: Policy) -> dict[str, _Signer]:
    signers = [*map(_key, policy.trusted_keys), *(_identity(who, policy.sigstore) for who in policy.trusted_identities)]
    return {signer.made_by: signer for signer in signers}


def _key(file: Path) -> _Signer:
    return _Signer(read_fingerprint(file), str(file), lambda config: config.use_elliptic_key_verifier(public_key=file))


def _identity(who: Identity, sigstore: Path | None) -> _Signer:
    def check(config: Any) -> Any:
        asked = {"identity": who.name, "oidc_issuer": who.issuer, "trust_config": sigstore}
        return _reached(lambda: config.use_sigstore_verifier(**asked), sigstore)

    return _Signer(who.fingerprint, str(who), check)


def _reached(ask: Callable[[], Any], own: Path | None) -> Any:
    """What sigstore answers. Raises OfflineError where it does not, RegistryError where there is no such configuration."""
    if own is not None and not own.is_file():
        raise RegistryError(f"{own}: there is no such configuration of sigstore ($VERTICAL_SIGSTORE).")
    try:
        return ask()
    except Exception as error:  # the libraries below raise dozens of kinds
        told = " ".join(str(error).split()) or type(error).__name__
        where = f"the sigstore of {own}" if own is not None else "sigstore"
        raise OfflineError(
            f"{where} cannot be reached, or does not take what it was given ({told[:300]}). "
            "Try again with a network, or sign with a key, which needs none: vertical registry sign REFERENCE --key FILE."
        ) from error


def _verify(version: Version, signer: _Signer) -> None:
    text = version.signatures.get(signer.made_by)
    if text is None:
        raise RegistryError(f"{version} is not signed by {signer}.")
    where = f"{version}: its signature by {signer}"
    try:
        statement = _statement(text, signer.made_by)[1]
    except ValueError as error:
        raise RegistryError(f"{where} is not one: {error}. Sign it anew.") from None
    wrong = _check(version.path, text, signer)
    files = {path.relative_to(version.path).as_posix() for path in version.path.rglob("*") if not path.is_dir()}
    left_out = sorted(files - statement.keys())
    if wrong or left_out:
        what = wrong or f"it leaves out {', '.join(left_out[:3])}"
        raise RegistryError(f"{where} does not hold: {what}. Use another version, or have it signed anew by who made it.")


def _signed(registry: Registry, reference: str, make: Callable[[Any], Any], made_by: str | None) -> Version:
    """Sign a version with what `make` makes of `model_signing.signing`; an identity is read from the signature."""
    version = registry.resolve(reference, check=False)
    if version.revoked is not None:
        raise RegistryError(f"{version} was revoked: {version.revoked}. A revoked version is not signed.")
    manifest = registry.store.manifest(version.digest)
    wrong = tree_problems(version.path, manifest, again=True)
    if wrong:
        raise CorruptAdapter(f"{version}: {'; '.join(wrong)} (in {version.path}). Mend it before it is signed.")
    signing, _, hashing = _model_signing()
    with tempfile.TemporaryDirectory() as desk:
        made = Path(desk) / "signature"
        config = make(signing).set_hashing_config(hashing)
        if made_by is None:
            _reached(lambda: config.sign(version.path, made), registry.policy.sigstore)
        else:
            config.sign(version.path, made)
        text = made.read_text(encoding="utf-8")
    if len(text) > LONGEST:
        raise RegistryError(
            f"{version}: its signature has {len(text)} characters, for {len(manifest)} files; a registry keeps at most {LONGEST}. "
            "Publish a folder with fewer files."
        )
    signer, files = _statement(text, made_by)
    wrong_files = _other_files(files, {path: file.sha256 for path, file in manifest.items()})
    if wrong_files:
        raise CorruptAdapter(f"{version}: {wrong_files} while it was being signed. Try again.")
    registry.add_signature(version, signer, text)
    return registry.resolve(str(version), check=False)


def _check(folder: Path, text: str, signer: _Signer) -> str:
    """Why a signature does not hold for a folder; nothing where it does."""
    _, verifying, hashing = _model_signing()
    from cryptography.exceptions import InvalidSignature

    with tempfile.TemporaryDirectory() as desk:
        given = Path(desk) / "signature"
        given.write_text(text, encoding="utf-8")
        verifier = signer.check(verifying.Config()).set_hashing_config(hashing)
        try:
            verifier.verify(folder, given)
        except InvalidSignature:
            return "another key made it, or it was changed"
        except Exception as error:  # noqa: BLE001  (whatever the library stumbles over, the signature was not found to hold)
            return " ".join(str(error).split()) or type(error).__name__
    return ""


def _model_signing() -> tuple[Any, Any, Any]:
    """Its modules `signing` and `verifying`, and how files are read: all of them, also those that git would keep to itself."""
    try:
        from model_signing import hashing, signing, verifying
    except ImportError:
        raise missing_sign_extra() from None
    files: Any = hashing.Config
    return signing, verifying, files().set_ignored_paths(paths=(), ignore_git_paths=False)


def _statement(text: str, made_by: str | None = None) -> tuple[str, dict[str, str]]:
    """Who made a signature, and path → SHA-256, as it says itself; whether it is a true one is another question.

    Raises ValueError where the text is cut or says something else.
    """
    try:
        bundle = json.loads(text)
        material = bundle["verificationMaterial"]
        key, certificate = material.get("publicKey"), material.get("certificate")
        hint = key["hint"] if key else read_identity(base64.b64decode(certificate["rawBytes"], validate=True)).fingerprint
        payload = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"], validate=True))
        kind, predicate = payload["predicateType"], payload["predicate"]
        method = predicate["serialization"]["method"], predicate["serialization"]["hash_type"]
        files = {resource["name"]: resource["digest"] for resource in predicate["resources"]}
        count = len(predicate["resources"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ValueError("it is cut, or no sigstore bundle over files") from None
    if made_by is not None and hint != made_by:
        raise ValueError(f"it says that {str(hint)[:SHOWN]}… made it")
    plain = all(isinstance(word, str) for pair in files.items() for word in pair)
    if kind != PREDICATE or method != ("files", "sha256") or count != len(files) or not plain:
        raise ValueError("it is not over the SHA-256 of each file")
    return str(hint), files


def _other_files(signed: Mapping[str, str], files: Mapping[str, str]) -> str:
    """How the files that were signed are others than these; nothing where they are the same."""
    changed = sorted(path for path in signed.keys() & files.keys() if signed[path] != files[path])
    told = [
        (changed, "was another"),
        (sorted(signed.keys() - files.keys()), "is gone"),
        (sorted(files.keys() - signed.keys()), "is new"),
    ]
    return "; ".join(f"{path} {what}" for paths, what in told for path in paths[:2])
