"""Key pairs for signing versions: elliptic curves in standard PEM files."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from vertical_sdk.errors import MissingExtra, RegistryError
from vertical_sdk.paths import report_full_disk, write_whole

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurve, EllipticCurvePrivateKey, EllipticCurvePublicKey
    from cryptography.hazmat.primitives.hashes import HashAlgorithm

__all__ = [
    "CURVES",
    "compute_fingerprint",
    "create_key_pair",
    "is_encrypted",
    "missing_sign_extra",
    "read_fingerprint",
    "read_private_key",
    "recover_public_key",
    "sign_message",
    "verify_message",
]

CURVES = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}
"""The curves that sigstore's bundles support."""
FIELDS = {
    "secp256r1": 2**256 - 2**224 + 2**192 + 2**96 - 1,
    "secp384r1": 2**384 - 2**128 - 2**96 + 2**32 - 1,
    "secp521r1": 2**521 - 1,
}
"""The prime of each curve's coordinates (SEC 2)."""
ORDERS = {
    "secp256r1": 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
    "secp384r1": 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973,
    "secp521r1": 2**521 - 0x5AE79787C40D069948033FEB708F65A2FC44A36477663B851449048E16EC79BF7,
}
"""The order of each curve's group (SEC 2)."""
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


def sign_message(key: EllipticCurvePrivateKey, message: bytes) -> bytes:
    """Sign bytes with ECDSA and the hash that sigstore uses for the curve; return the signature in DER."""
    from cryptography.hazmat.primitives.asymmetric import ec

    return key.sign(message, ec.ECDSA(_hash_of(key.curve)))


def verify_message(key: EllipticCurvePublicKey, signature: bytes, message: bytes) -> bool:
    """Whether the private key of a public key made the signature of these bytes."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        key.verify(signature, message, ec.ECDSA(_hash_of(key.curve)))
    except InvalidSignature:
        return False
    return True


def recover_public_key(signature: bytes, message: bytes, fingerprint: str) -> EllipticCurvePublicKey | None:
    """Compute the public key that made an ECDSA signature of these bytes, if it has this fingerprint. None means that no such key did.

    A signature of model-signing names its key by the fingerprint only. The key follows from the signature (SEC 1, 4.1.6): with
    u = -hash / r and v = s / r, it is uG + vR for one of the two points R whose x is r. The fingerprint then tells which, and the
    signature is verified with that key in the usual way.
    """
    try:
        from cryptography.hazmat.primitives.asymmetric import ec, utils
    except ImportError:
        raise missing_sign_extra() from None
    try:
        r, s = utils.decode_dss_signature(signature)
        curve = next(
            curve for curve in (ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()) if max(r, s).bit_length() <= curve.key_size
        )
        candidates = _recover_candidates(curve, r, s, message)
    except (ValueError, StopIteration, ArithmeticError):  # not a signature, or r is not the x of a point
        return None
    for key in candidates:
        if compute_fingerprint(key) == fingerprint and verify_message(key, signature, message):
            return key
    return None


def _recover_candidates(curve: EllipticCurve, r: int, s: int, message: bytes) -> list[EllipticCurvePublicKey]:
    """The two keys that may have made the signature (r, s). Raises ValueError if there are none."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    hashing = hashes.Hash(_hash_of(curve))
    hashing.update(message)
    order, prime = ORDERS[curve.name], FIELDS[curve.name]
    inverse = pow(r, -1, order)
    size = (curve.key_size + 7) // 8

    def find_point(x: bytes) -> EllipticCurvePublicKey:
        return ec.EllipticCurvePublicKey.from_encoded_point(curve, b"\x02" + x)

    u = -int.from_bytes(hashing.finalize(), "big") * inverse % order
    first = ec.derive_private_key(u, curve).public_key().public_numbers()
    v = ec.derive_private_key(s * inverse % order, curve)
    second = find_point(v.exchange(ec.ECDH(), find_point(r.to_bytes(size, "big")))).public_numbers()  # vR, up to its sign
    keys = []
    for y in (second.y, prime - second.y):
        slope = (y - first.y) * pow(second.x - first.x, -1, prime)
        x = (slope * slope - first.x - second.x) % prime
        keys.append(ec.EllipticCurvePublicNumbers(x, (slope * (first.x - x) - first.y) % prime, curve).public_key())
    return keys


def _hash_of(curve: EllipticCurve) -> HashAlgorithm:
    from cryptography.hazmat.primitives import hashes

    return {256: hashes.SHA256(), 384: hashes.SHA384(), 521: hashes.SHA512()}[curve.key_size]


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
