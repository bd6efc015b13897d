"""Who somebody is to sigstore: an address or a workflow that an identity provider vouches for, instead of a key of one's own."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from vertical_sdk.errors import RegistryError
from vertical_sdk.registry.keys import missing_sign_extra

__all__ = ["Identity", "read_identity", "parse_identities"]

ISSUED_BY = "1.3.6.1.4.1.57264.1.1"
"""Where Fulcio writes the provider into a certificate (sigstore/fulcio, docs/oid-info.md)."""


@dataclass(frozen=True, slots=True)
class Identity:
    """An identity and its provider, such as ada@example.org of https://accounts.google.com."""

    name: str
    issuer: str

    def __str__(self) -> str:
        return f"{self.name} of {self.issuer}"

    @property
    def fingerprint(self) -> str:
        """What its signatures are kept under, in the place of a key's fingerprint."""
        return hashlib.sha256(f"{self.issuer}\n{self.name}".encode()).hexdigest()


def parse_identities(text: str, where: str) -> tuple[Identity, ...]:
    """Identities between commas, each a name and its provider with a space between. Raises RegistryError."""
    found = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, issuer = part.partition(" ")
        if not issuer.strip():
            raise RegistryError(f"{where}: {part!r} has no provider: write 'ada@example.org https://accounts.google.com'.")
        found.append(Identity(name, issuer.strip()))
    return tuple(found)


def read_identity(certificate: bytes) -> Identity:
    """Whom a certificate of Fulcio's (DER) names; whether it is a true one is another question. Raises ValueError, MissingExtra."""
    try:
        from cryptography import x509
    except ImportError:
        raise missing_sign_extra() from None
    try:
        found = x509.load_der_x509_certificate(certificate).extensions
        names = found.get_extension_for_class(x509.SubjectAlternativeName).value
        issuer = found.get_extension_for_oid(x509.ObjectIdentifier(ISSUED_BY)).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension) as error:
        raise ValueError(f"its certificate is not one of sigstore's: {error}") from None
    plain = [*names.get_values_for_type(x509.RFC822Name), *names.get_values_for_type(x509.UniformResourceIdentifier)]
    if len(plain) != 1 or not isinstance(issuer, x509.UnrecognizedExtension):
        raise ValueError("its certificate names nobody, or several")
    return Identity(plain[0], issuer.value.decode(errors="replace"))
