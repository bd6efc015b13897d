"""The policy of a registry: the keys and identities it trusts, the licences it accepts, and what an alias may point at."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from vertical_sdk.card import Card
from vertical_sdk.errors import GateFailed, RegistryError
from vertical_sdk.registry.identities import Identity, parse_identities

__all__ = ["FREE_ALIASES", "PASSING", "Policy", "check_licenses"]

FREE_ALIASES = ("candidate", "challenger", "staging")
"""Aliases of versions on trial, which may point at one that did not pass its gate. All other names may be what a service loads."""

PASSING = frozenset({"passed", "non-inferior"})
"""Gate results with which any alias may point at a version: a recipe with a margin below 0 asks only for a non-inferior one."""

SEPARATORS = {
    "VERTICAL_TRUSTED_KEYS": os.pathsep,
    "VERTICAL_LICENSES": ",",
    "VERTICAL_TRUSTED_IDENTITIES": ",",
    "VERTICAL_SIGSTORE": ",",
}
"""Variables that require something, and what separates the parts of each."""


@dataclass(frozen=True)
class Policy:
    """Required signatures, accepted licences, and which aliases need a passed gate; the default requires only the last.

    trusted_keys        public keys (PEM files); one of them must have signed each version that is loaded
    trusted_identities  the same for identities that sign with sigstore; if both are empty, no signature is required
    sigstore            the configuration of a private sigstore instance; None means the public one
    licenses            accepted licences of data and base, as SPDX names or patterns ("cc-by-*"); empty accepts all, also a missing one
    free_aliases        aliases that may point at a version that did not pass its gate; all others need force and a reason
    """

    trusted_keys: tuple[Path, ...] = ()
    licenses: tuple[str, ...] = ()
    trusted_identities: tuple[Identity, ...] = ()
    sigstore: Path | None = None
    free_aliases: tuple[str, ...] = FREE_ALIASES

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
        VERTICAL_FREE_ALIASES        names separated by commas, instead of FREE_ALIASES; empty: no alias is free

        Raises RegistryError if the file of a key does not exist or a folder contains no keys, and if one of the first four is set but
        names nothing: a broken policy is never ignored.
        """
        _refuse_empty_settings()
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
        free = os.environ.get("VERTICAL_FREE_ALIASES")
        free_aliases = FREE_ALIASES if free is None else tuple(filter(None, (name.strip() for name in free.split(","))))
        return cls(tuple(keys), tuple(filter(None, names)), identities, Path(sigstore) if sigstore else None, free_aliases)

    def needs_force(self, alias: str, gate: str) -> bool:
        """Whether an alias may point at a version with this gate result only by force."""
        return gate not in PASSING and alias not in self.free_aliases

    def check_alias_gate(self, version: str, alias: str, gate: str) -> None:
        """Check that an alias may point at a version with this gate result: an alias is what services load.

        version  its name, for the message

        Raises GateFailed.
        """
        if self.needs_force(alias, gate):
            problem = {"failed": "failed its gate", "not evaluated": "was not evaluated by its gate"}.get(
                gate, "has no gate (ungated)"
            )
            raise GateFailed(
                f"{version} {problem}, so the alias {alias!r} does not move to it. Choose a version that passed, or move the alias by "
                "force with a reason, which is recorded: --force --reason TEXT (force=True, why=TEXT)."
            )


def _refuse_empty_settings() -> None:
    """Raise RegistryError for a setting that is there and names nothing, such as that of a variable which was not filled in."""
    for name, separator in SEPARATORS.items():
        value = os.environ.get(name)
        if value is not None and not value.replace(separator, "").strip():
            message = "this variable is set but empty, so it is not clear whether anything is required. Name something in it, or unset it."
            raise RegistryError(message, where=f"${name}")


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
