"""Key pairs for signing versions: elliptic curves in standard PEM files."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from vertical_sdk.errors import MissingExtra, RegistryError
from vertical_sdk.paths import report_full_disk, write_whole

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey

__all__ = [
    "CURVES",
    "compute_fingerprint",
    "create_key_pair",
    "is_encrypted",
    "missing_sign_extra",
    "read_fingerprint",
    "read_private_key",
]

CURVES = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}
"""The curves that sigstore's bundles support."""
SHORTEST = 8
"""Characters of a passphrase."""


def create_key_pair(file: Path, passphrase: str = "") -> tuple[Path, str]:
    """Create a P-256 key pair: the private key in a file that only its owner may read, the public key beside it in FILE.pub.

    passphrase  encrypts the private key; "" stores it unencrypted
    returns     the file of the public key, and its fingerprint

    Raises RegistryError if one of the files exists (nothing is overwritten) or the passphrase is too short; MissingExtra; RunError.
    """
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ec
    except ImportError:
        raise missing_sign_extra() from None
    public = file.with_name(f"{file.name}.pub")
    for path in (file, public):
        if path.exists() or path.is_symlink():
            raise RegistryError("this file exists, and a key is never overwritten. Choose another name.", where=path)
    if passphrase and len(passphrase) < SHORTEST:
        raise RegistryError(f"the passphrase has {len(passphrase)} characters. Use {SHORTEST} or more, or no passphrase.")
    key = ec.generate_private_key(ec.SECP256R1())
    locked = serialization.BestAvailableEncryption(passphrase.encode()) if passphrase else serialization.NoEncryption()
    content = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked)
    with report_full_disk(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            raise RegistryError("this file exists, and a key is never overwritten. Choose another name.", where=file) from None
        with os.fdopen(handle, "wb") as writer:
            writer.write(content)
            writer.flush()
            os.fsync(writer.fileno())
    write_whole(public, _pem(key.public_key()))
    return public, compute_fingerprint(key.public_key())


def read_fingerprint(file: Path) -> str:
    """Read a public key's fingerprint: SHA-256 of its PEM text, in hex. A signature names its key by it.

    Raises RegistryError if the file is missing, is not a public key, or is a key that sigstore's bundles do not support; MissingExtra.
    """
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives import serialization
    except ImportError:
        raise missing_sign_extra() from None
    content = _read(file)
    if b"PRIVATE KEY" in content:
        raise RegistryError("this is a private key. Give the public key, FILE.pub, and keep this one secret.", where=file)
    try:
        key = serialization.load_pem_public_key(content)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise RegistryError(
            "this is not a public key in PEM. Create one with `vertical registry keygen FILE`, which writes FILE.pub.",
            where=file,
        ) from None
    return compute_fingerprint(_check_curve(key, file))


def read_private_key(file: Path, passphrase: str = "") -> EllipticCurvePrivateKey:
    """Read the private key in a file. The passphrase is ignored if the key is not encrypted.

    Raises RegistryError if the file is missing or is not such a key, or the passphrase is missing or wrong; MissingExtra.
    """
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives import serialization
    except ImportError:
        raise missing_sign_extra() from None
    content = _read(file)
    encrypted = _is_encrypted_pem(content)
    if encrypted and not passphrase:
        raise RegistryError("this key needs its passphrase. Set $VERTICAL_KEY_PASSWORD, or give password=.", where=file)
    try:
        key = serialization.load_pem_private_key(content, passphrase.encode() if encrypted else None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        problem = "the passphrase is wrong, or the file is cut" if encrypted else "this is not a private key in PEM"
        raise RegistryError(f"{problem}. Create a key with `vertical registry keygen FILE`.", where=file) from None
    _check_curve(key.public_key() if hasattr(key, "public_key") else key, file)
    return key  # type: ignore[return-value]  # _check_curve checked it


def is_encrypted(file: Path) -> bool:
    """Whether a private key needs a passphrase. Raises RegistryError if there is no such file."""
    return _is_encrypted_pem(_read(file))


def compute_fingerprint(key: EllipticCurvePublicKey) -> str:
    """Compute the fingerprint of a key in memory, as `read_fingerprint` does for a file."""
    return hashlib.sha256(_pem(key)).hexdigest()


def missing_sign_extra() -> MissingExtra:
    """Build the error that says how to install what signatures need."""
    return MissingExtra("sign", "signing, or checking a signature,")


def _is_encrypted_pem(content: bytes) -> bool:
    return b"ENCRYPTED" in content


def _pem(key: EllipticCurvePublicKey) -> bytes:
    from cryptography.hazmat.primitives import serialization

    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def _check_curve(key: object, file: Path) -> EllipticCurvePublicKey:
    from cryptography.hazmat.primitives.asymmetric import ec

    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in CURVES:
        kind = f"on the curve {key.curve.name}" if isinstance(key, ec.EllipticCurvePublicKey) else "of another kind"
        message = f"this is a key {kind}. Use a key on one of the elliptic curves {', '.join(CURVES.values())}."
        raise RegistryError(message, where=file)
    return key


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise RegistryError(f"the key cannot be read ({error.strerror}). Check the path.", where=file) from None
