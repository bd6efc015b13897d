"""The policy of a registry: the keys and identities it trusts, and the licences it accepts."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from vertical_sdk.card import Card
from vertical_sdk.errors import RegistryError
from vertical_sdk.registry.identities import Identity, parse_identities

__all__ = ["Policy", "check_licenses"]


@dataclass(frozen=True)
class Policy:
    """Required signatures and accepted licences; the default requires nothing.

    trusted_keys        public keys (PEM files); one of them must have signed each version that is loaded
    trusted_identities  the same for identities that sign with sigstore; if both are empty, no signature is required
    sigstore            the configuration of a private sigstore instance; None means the public one
    licenses            accepted licences of data and base, as SPDX names or patterns ("cc-by-*"); empty accepts all, also a missing one
    """

    trusted_keys: tuple[Path, ...] = ()
    licenses: tuple[str, ...] = ()
    trusted_identities: tuple[Identity, ...] = ()
    sigstore: Path | None = None

    @property
    def requires_signature(self) -> bool:
        """Whether a version must be signed to be loaded."""
        return bool(self.trusted_keys or self.trusted_identities)

    @classmethod
    def from_environment(cls) -> Policy:
        """Read the policy from environment variables.

        VERTICAL_TRUSTED_KEYS        files, or folders with `*.pub` and `*.pem`, separated as in PATH
        VERTICAL_LICENSES            names separated by commas
        VERTICAL_TRUSTED_IDENTITIES  "NAME PROVIDER" pairs separated by commas
        VERTICAL_SIGSTORE            a file

        Raises RegistryError if the file of a key does not exist or a folder contains no keys: a broken policy is never ignored.
        """
        keys: list[Path] = []
        for place in filter(None, os.environ.get("VERTICAL_TRUSTED_KEYS", "").split(os.pathsep)):
            path = Path(place)
            files = [path] if path.is_file() else sorted([*path.glob("*.pub"), *path.glob("*.pem")])
            if not files:
                raise RegistryError(
                    f"{place} is neither a public key nor a folder of *.pub or *.pem files. Correct the path.",
                    where="$VERTICAL_TRUSTED_KEYS",
                )
            keys += files
        names = (name.strip() for name in os.environ.get("VERTICAL_LICENSES", "").split(","))
        identities = parse_identities(os.environ.get("VERTICAL_TRUSTED_IDENTITIES", ""), "$VERTICAL_TRUSTED_IDENTITIES")
        sigstore = os.environ.get("VERTICAL_SIGSTORE")
        return cls(tuple(keys), tuple(filter(None, names)), identities, Path(sigstore) if sigstore else None)


def check_licenses(card: Card, allowed: Iterable[str]) -> None:
    """Check that the licences of data and base are accepted; an empty list accepts all.

    Raises RegistryError with each licence that is not accepted or missing.
    """
    allowed = [pattern.lower() for pattern in allowed]
    if not allowed:
        return
    licenses = [(f"its base {card.base.name}", card.base.license), *((f"its data {s.source}", s.license) for s in card.sources)]
    refused = [
        f"{title} {f'has the licence {spdx}' if spdx else 'states no licence'}"
        for title, spdx in licenses
        if not spdx or not any(fnmatch.fnmatchcase(spdx.lower(), pattern) for pattern in allowed)
    ]
    if refused:
        raise RegistryError(
            f"{card.name}: {'; '.join(refused)}. This registry accepts {', '.join(allowed)}. "
            "State a data set's licence in its recipe (data.license), or train on other data."
        )
