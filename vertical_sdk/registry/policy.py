"""What a registry insists on, beyond what it always does: whose signatures count, and which licences may go in."""

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
    """Nothing beyond the usual, as it stands.

    trusted_keys        public keys (PEM files), one of which must have signed whatever is loaded
    trusted_identities  the same for those who sign with sigstore; no signature is asked for where there is neither
    sigstore            the configuration of a sigstore of one's own; the public one where it is None
    licenses            the licences that data and base may have, as SPDX names or patterns ("cc-by-*"); all, also none, where it is empty
    """

    trusted_keys: tuple[Path, ...] = ()
    licenses: tuple[str, ...] = ()
    trusted_identities: tuple[Identity, ...] = ()
    sigstore: Path | None = None

    @property
    def signed(self) -> bool:
        """Whether what is loaded must be signed."""
        return bool(self.trusted_keys or self.trusted_identities)

    @classmethod
    def from_environment(cls) -> Policy:
        """`$VERTICAL_TRUSTED_KEYS`: files, or folders of `*.pub` and `*.pem`, as in PATH; `$VERTICAL_LICENSES`: names between commas;
        `$VERTICAL_TRUSTED_IDENTITIES`: "NAME PROVIDER", between commas; `$VERTICAL_SIGSTORE`: a file.

        Raises RegistryError where a key's file does not exist, or a folder has none: a policy that cannot be kept is not left out.
        """
        keys: list[Path] = []
        for place in filter(None, os.environ.get("VERTICAL_TRUSTED_KEYS", "").split(os.pathsep)):
            path = Path(place)
            found = [path] if path.is_file() else sorted([*path.glob("*.pub"), *path.glob("*.pem")])
            if not found:
                raise RegistryError(
                    f"$VERTICAL_TRUSTED_KEYS: {place} is neither a public key nor a folder of *.pub or *.pem files."
                )
            keys += found
        names = (name.strip() for name in os.environ.get("VERTICAL_LICENSES", "").split(","))
        identities = parse_identities(os.environ.get("VERTICAL_TRUSTED_IDENTITIES", ""), "$VERTICAL_TRUSTED_IDENTITIES")
        own = os.environ.get("VERTICAL_SIGSTORE")
        return cls(tuple(keys), tuple(filter(None, names)), identities, Path(own) if own else None)


def check_licenses(card: Card, allowed: Iterable[str]) -> None:
    """See that data and base have licences that the policy allows; without a policy, all have.

    Raises RegistryError that says which has another one, or none.
    """
    allowed = [pattern.lower() for pattern in allowed]
    if not allowed:
        return
    licenses = [(f"its base {card.base.name}", card.base.license), *((f"its data {s.source}", s.license) for s in card.sources)]
    wrong = [
        f"{what} {f'is under {spdx}' if spdx else 'states no licence'}"
        for what, spdx in licenses
        if not spdx or not any(fnmatch.fnmatchcase(spdx.lower(), pattern) for pattern in allowed)
    ]
    if wrong:
        raise RegistryError(
            f"{card.name}: {'; '.join(wrong)}. This registry takes {', '.join(allowed)}. "
            "State a data set's licence in its recipe (data.license), or train on other data."
        )
