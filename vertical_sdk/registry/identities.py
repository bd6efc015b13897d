"""Identities for sigstore: an address or a workflow confirmed by an identity provider, used in place of a private key."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from vertical_sdk.errors import RegistryError
from vertical_sdk.registry.keys import missing_sign_extra

__all__ = ["Identity", "parse_identities", "read_identity"]

ISSUED_BY = "1.3.6.1.4.1.57264.1.1"
"""The field of a certificate in which Fulcio writes the provider (sigstore/fulcio, docs/oid-info.md)."""


@dataclass(frozen=True, slots=True)
class Identity:
    """An identity and its provider, such as ada@example.org of https://accounts.google.com."""

    name: str
    issuer: str

    def __str__(self) -> str:
        return f"{self.name} of {self.issuer}"

    @property
    def fingerprint(self) -> str:
        """The key under which its signatures are stored, in place of the fingerprint of a key."""
        return hashlib.sha256(f"{self.issuer}\n{self.name}".encode()).hexdigest()


def parse_identities(text: str, where: str) -> tuple[Identity, ...]:
    """Parse identities separated by commas, each "NAME PROVIDER".

    where  the setting that contains the text

    Raises RegistryError.
    """
    identities = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, issuer = part.partition(" ")
        if not issuer.strip():
            message = f"{part!r} has no provider. Write NAME PROVIDER, such as 'ada@example.org https://accounts.google.com'."
            raise RegistryError(message, where=where)
        identities.append(Identity(name, issuer.strip()))
    return tuple(identities)


def read_identity(certificate: bytes) -> Identity:
    """Read the identity in a certificate of Fulcio (DER), without checking the certificate. Raises ValueError, MissingExtra."""
    try:
        from cryptography import x509
    except ImportError:
        raise missing_sign_extra() from None
    try:
        extensions = x509.load_der_x509_certificate(certificate).extensions
        names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        issuer = extensions.get_extension_for_oid(x509.ObjectIdentifier(ISSUED_BY)).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension) as error:
        raise ValueError(f"its certificate was not issued by sigstore: {error}") from None
    plain = [*names.get_values_for_type(x509.RFC822Name), *names.get_values_for_type(x509.UniformResourceIdentifier)]
    if len(plain) != 1 or not isinstance(issuer, x509.UnrecognizedExtension):
        raise ValueError("its certificate must name exactly one identity")
    return Identity(plain[0], issuer.value.decode(errors="replace"))
