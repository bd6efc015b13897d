"""Signing versions with OpenSSF's model-signing: a signer vouches for the files of a version.

A signature is a sigstore bundle, the text that `model_signing sign` writes: an in-toto statement with every file's path and SHA-256.
It does not contain names, numbers or places, so it is valid in every registry that the files are copied to; the card, which contains
the adapter's name, is one of the files. It is made with a private key, which needs no network, or with sigstore: an identity
provider confirms the signer, the key exists for minutes, and a public log records it. The registry stores it beside the version under
the fingerprint of the key or of the identity.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vertical_sdk.errors import CorruptAdapter, RegistryError, VerticalError
from vertical_sdk.registry.keys import compute_fingerprint, is_encrypted, read_private_key
from vertical_sdk.registry.registry import Registry
from vertical_sdk.registry.revocations import build_revocation
from vertical_sdk.registry.signature_check import (
    LONGEST,
    SHOWN,
    Signer,
    call_sigstore,
    check_signature,
    compare_files,
    find_invalid,
    load_model_signing,
    read_statement,
    trusted_signers,
)
from vertical_sdk.registry.tree import tree_problems
from vertical_sdk.registry.verification import read_all
from vertical_sdk.registry.version import Version

__all__ = ["sign", "sign_revocation", "sign_with_sigstore", "signature_problems"]

TOKEN = "SIGSTORE_IDENTITY_TOKEN"  # noqa: S105  (the variable's name)
"""The environment variable with an identity provider's token, as in sigstore's own command line."""


def sign(registry: Registry, reference: str, key: Path, password: str = "") -> Version:
    """Sign a version's files with a private key and store the signature beside it, replacing an earlier one of the same key.

    key       an elliptic curve's private key in PEM (`keys.create_key_pair` creates one)
    password  its passphrase, if it is encrypted

    Raises RegistryError if there is no such version, it was revoked, or the key cannot be used; CorruptAdapter if a file of the
    version has changed; MissingExtra.
    """
    made_by = compute_fingerprint(read_private_key(key, password).public_key())
    passphrase = password.encode() if is_encrypted(key) else None

    def configure(signing: Any) -> Any:
        return signing.Config().use_elliptic_key_signer(private_key=key, password=passphrase)

    return _sign(registry, reference, configure, made_by)


def sign_with_sigstore(registry: Registry, reference: str, token: str = "") -> Version:
    """Sign a version's files with an identity that a provider confirms, and store the signature beside it. Needs the network.

    token  the provider's token; without one, `$SIGSTORE_IDENTITY_TOKEN`, or the identity of the machine (as on GitHub Actions), or
           else a login in the browser

    The identity and a digest of the statement are written to sigstore's public log permanently, unless the policy names a private
    sigstore instance. Raises OfflineError if sigstore cannot be reached or refuses the identity, and what `sign` raises.
    """
    sigstore = registry.policy.sigstore
    token = token or os.environ.get(TOKEN, "")

    def configure(signing: Any) -> Any:
        options = {"identity_token": token or None, "use_ambient_credentials": not token}
        return call_sigstore(lambda: signing.Config().use_sigstore_signer(trust_config=sigstore, **options), sigstore)

    return _sign(registry, reference, configure, None)


def sign_revocation(registry: Registry, reference: str, reason: str, key: Path, password: str = "") -> Version:
    """Revoke a version with a statement signed by a private key, or add the statement to a version that is already revoked.

    key       an elliptic curve's private key in PEM (`keys.create_key_pair` creates one)
    password  its passphrase, if it is encrypted

    Raises RegistryError if there is no such version, the reason is empty or too long, or the key cannot be used; MissingExtra.
    """
    version = registry.resolve(reference, check=False)
    return registry.add_revocation(version, build_revocation(version.digest, reason, key, password))


def signature_problems(registry: Registry, reference: str | None = None) -> list[str]:
    """List the problems with the signatures of one version, or of all versions, a sentence each.

    The signature of a trusted signer (`registry.policy`) is verified with the files. For any other signature, its list of files is
    compared with the version's manifest, and a key's signature is verified. If the policy trusts a signer, versions that no trusted
    signer signed are listed too. Versions that cannot be read are left out: `Registry.verify` lists them.
    """
    trusted = trusted_signers(registry.policy)
    versions = [registry.resolve(reference, check=False)] if reference is not None else read_all(registry)[0]
    problems = []
    for version in versions:
        if version.purged is not None:
            continue
        problems += [_problem(registry, version, made_by, trusted.get(made_by)) for made_by in sorted(version.signatures)]
        if trusted and not trusted.keys() & version.signatures.keys():
            problems.append(f"{version} has no signature of a trusted signer")
    return [line for line in problems if line]


def _problem(registry: Registry, version: Version, made_by: str, signer: Signer | None) -> str:
    """What is wrong with a signature; "" if it is valid."""
    try:
        if signer is not None:
            check_signature(version, signer)
            return ""
        problem = find_invalid(version.signatures[made_by], made_by, registry.store.manifest(version.digest)) or ""
    except VerticalError as error:
        return str(error)
    return problem and f"{version}: its signature by {made_by[:SHOWN]}… is not valid: {problem}"


def _sign(registry: Registry, reference: str, configure: Callable[[Any], Any], made_by: str | None) -> Version:
    """Sign a version. `configure` builds a config from `model_signing.signing`; without `made_by`, the signature names the signer."""
    version = registry.resolve(reference, check=False)
    if version.revoked is not None:
        raise RegistryError(f"{version} was revoked: {version.revoked}. A revoked version cannot be signed.")
    manifest = registry.store.manifest(version.digest)
    problems = tree_problems(version.path, manifest, reread=True)
    if problems:
        message = f"{version}: {'; '.join(problems)}. Publish the same adapter again to repair it before signing."
        raise CorruptAdapter(message, where=version.path)
    signing, _, hashing = load_model_signing()
    with tempfile.TemporaryDirectory() as temporary:
        file = Path(temporary) / "signature"
        config = configure(signing).set_hashing_config(hashing)
        if made_by is None:
            call_sigstore(lambda: config.sign(version.path, file), registry.policy.sigstore)
        else:
            config.sign(version.path, file)
        text = file.read_text(encoding="utf-8")
    if len(text) > LONGEST:
        raise RegistryError(
            f"{version}: its signature has {len(text)} characters, for {len(manifest)} files; a registry stores at most {LONGEST}. "
            "Publish a folder with fewer files."
        )
    signer, signed_files = read_statement(text, made_by)
    difference = compare_files(signed_files, {path: file.sha256 for path, file in manifest.items()})
    if difference:
        raise CorruptAdapter(f"{version}: {difference} while it was being signed. Try again.")
    registry.add_signature(version, signer, text)
    return registry.resolve(str(version), check=False)
