"""Key pairs that versions are signed with: elliptic curves, in PEM files as any other tool writes and reads them."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from vertical_sdk.errors import MissingExtra, RegistryError
from vertical_sdk.paths import report_full_disk, write_whole

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey

__all__ = ["CURVES", "fingerprint", "compute_fingerprint", "is_encrypted", "create_key_pair", "missing_sign_extra", "private_key"]

CURVES = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}
"""Those that sigstore's bundles know."""
SHORTEST = 8
"""Characters of a passphrase."""


def create_key_pair(file: Path, passphrase: str = "") -> tuple[Path, str]:
    """Make a P-256 key pair: the private key in a file that only its owner may read, the public one beside it with ".pub" behind.

    passphrase  encrypts the private key; it lies open where there is none
    returns     the public key's file, and its fingerprint

    Raises RegistryError where one of the files exists (nothing is overwritten) or the passphrase is short, MissingExtra, RunError.
    """
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ec
    except ImportError:
        raise missing_sign_extra() from None
    public = file.with_name(f"{file.name}.pub")
    for path in (file, public):
        if path.exists() or path.is_symlink():
            raise RegistryError(f"{path} exists already, and a key is never overwritten. Choose another name.")
    if passphrase and len(passphrase) < SHORTEST:
        raise RegistryError(f"the passphrase has {len(passphrase)} characters; take {SHORTEST} or more, or none at all.")
    key = ec.generate_private_key(ec.SECP256R1())
    locked = serialization.BestAvailableEncryption(passphrase.encode()) if passphrase else serialization.NoEncryption()
    content = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked)
    with report_full_disk(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            raise RegistryError(f"{file} exists already, and a key is never overwritten. Choose another name.") from None
        with os.fdopen(handle, "wb") as writer:
            writer.write(content)
            writer.flush()
            os.fsync(writer.fileno())
    write_whole(public, _pem(key.public_key()))
    return public, compute_fingerprint(key.public_key())


def read_fingerprint(file: Path) -> str:
    """SHA-256 of a public key's PEM text, in hex: how a signature says which key made it.

    Raises RegistryError where the file is missing, is no public key, or one that sigstore's bundles do not know; MissingExtra.
    """
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives import serialization
    except ImportError:
        raise missing_sign_extra() from None
    content = _read(file)
    if b"PRIVATE KEY" in content:
        raise RegistryError(f"{file}: is a private key. Give the public one, FILE.pub, and keep this one to yourself.")
    try:
        key = serialization.load_pem_public_key(content)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise RegistryError(
            f"{file}: is not a public key in PEM. `vertical registry keygen FILE` makes one, FILE.pub."
        ) from None
    return compute_fingerprint(_fit(key, file))


def read_private_key(file: Path, passphrase: str = "") -> EllipticCurvePrivateKey:
    """The private key in a file; a passphrase that a key does not need is not used.

    Raises RegistryError where the file is missing or is no such key, or the passphrase is missing or wrong; MissingExtra.
    """
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives import serialization
    except ImportError:
        raise missing_sign_extra() from None
    content = _read(file)
    encrypted = _locked(content)
    if encrypted and not passphrase:
        raise RegistryError(f"{file}: needs its passphrase: set $VERTICAL_KEY_PASSWORD, or give password=.")
    try:
        key = serialization.load_pem_private_key(content, passphrase.encode() if encrypted else None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        wrong = "the passphrase is wrong, or the file is cut" if encrypted else "is not a private key in PEM"
        raise RegistryError(f"{file}: {wrong}. `vertical registry keygen FILE` makes a key.") from None
    _fit(key.public_key() if hasattr(key, "public_key") else key, file)
    return key  # type: ignore[return-value]  # _fit saw to it


def is_encrypted(file: Path) -> bool:
    """Whether a private key needs a passphrase. Raises RegistryError where there is no such file."""
    return _locked(_read(file))


def compute_fingerprint(key: EllipticCurvePublicKey) -> str:
    """As `fingerprint`, of a key that was read already."""
    return hashlib.sha256(_pem(key)).hexdigest()


def missing_sign_extra() -> MissingExtra:
    """The error that says how signatures can be had."""
    return MissingExtra("sign", "signing, or checking a signature,")


def _locked(content: bytes) -> bool:
    return b"ENCRYPTED" in content


def _pem(key: EllipticCurvePublicKey) -> bytes:
    from cryptography.hazmat.primitives import serialization

    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def _fit(key: object, file: Path) -> EllipticCurvePublicKey:
    from cryptography.hazmat.primitives.asymmetric import ec

    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in CURVES:
        kind = f"on the curve {key.curve.name}" if isinstance(key, ec.EllipticCurvePublicKey) else "of another kind"
        raise RegistryError(f"{file}: is a key {kind}; signatures are made with elliptic curves: {', '.join(CURVES.values())}.")
    return key


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise RegistryError(f"{file}: the key cannot be read ({error.strerror}).") from None
