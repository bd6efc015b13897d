"""Which sources may be fetched because the card of an adapter names them, and not the user.

A card is written by the publisher of the adapter. An address in it would be fetched from this machine, inside its network and with
its rights. So inside `for_card` every `sources.fetch` asks here.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
from collections.abc import Callable, Collection, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from vertical_sdk.card import Card
from vertical_sdk.errors import SourceError
from vertical_sdk.paths import file_digest
from vertical_sdk.recipe import Recipe
from vertical_sdk.sources.fetched import hide_secrets

__all__ = ["NotPublic", "Permission", "current_permission", "for_card", "list_sources"]

WEB = frozenset({"http", "https"})
CLOUD = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl"})
"""Schemes of stores whose address comes from this machine's own settings, and not from the source."""
TRANSLATED = ipaddress.ip_network("64:ff9b::/96")
"""Addresses of IPv6 that contain one of IPv4 (NAT64, RFC 6052)."""


class NotPublic(OSError):
    """A connection to an address that is not public was refused."""


@dataclass(frozen=True)
class Permission:
    """What a card may have fetched.

    known    the sources of a card that is trusted for this; None: any that is public
    digests  SHA-256 of the files that the adapter was trained on, according to its card
    allowed  the sources that the user named
    """

    known: frozenset[str] | None
    digests: frozenset[str]
    allowed: frozenset[str]

    def check(self, source: str) -> None:
        """Raise SourceError if a source may not be fetched."""
        scheme, colon, _ = source.partition(":")
        local = "://" not in source and "::" not in source and scheme not in {"pypi", "hf", "package"}
        if source in self.allowed or (colon and scheme == "package") or (local and self._is_own(source)):
            return
        if self.known is not None and source not in self.known:
            raise _refuse(source, "the card of an adapter names it, and neither you nor the card of the version in use does")
        if scheme == "file" or (local and self.known is None):
            raise _refuse(source, "the card of an adapter names it, and it is a file or folder of this machine")
        if "://" in source and scheme not in WEB | CLOUD:
            raise _refuse(source, f"the card of an adapter names it, and its scheme is {scheme!r}")

    def find_connect(self, source: str) -> Callable[[Any], socket.socket] | None:
        """The function that opens the connections of a web address, redirects included; None if any may be opened."""
        if urlsplit(source).scheme not in WEB:
            return None
        allowed = {place for address in self.allowed for place in _find_places(address)}
        return lambda info: _connect(info, allowed)

    def _is_own(self, source: str) -> bool:
        """Whether a file of this machine is the user's own, with the bytes that the adapter was trained on."""
        try:
            path = Path(source).expanduser()
            own = path.is_file() and path.stat().st_uid == os.geteuid()
            return own and file_digest(path) in self.digests
        except (OSError, RuntimeError, ValueError):
            return False


_current: ContextVar[Permission | None] = ContextVar("permission", default=None)


def current_permission() -> Permission | None:
    """What may be fetched now; None if there is no limit, because the user names the sources."""
    return _current.get()


@contextlib.contextmanager
def for_card(card: Card, *, known: Card | None = None, allowed: Collection[str] = ()) -> Iterator[None]:
    """Limit what may be fetched, as long as the block runs, to what a card may ask for.

    known    the card of a version that is in use: only its sources are fetched; None: any public address
    allowed  sources that the user named
    """
    digests = {source.sha256 for source in card.sources if source.sha256}
    sources = None if known is None else frozenset(list_sources(Recipe.model_validate(known.recipe)))
    token = _current.set(Permission(sources, frozenset(digests), frozenset(allowed)))
    try:
        yield
    finally:
        _current.reset(token)


def list_sources(recipe: Recipe) -> list[str]:
    """List the sources that a recipe names: of its data, and of the general text that forgetting is measured on."""
    data = recipe.data.source
    forgetting = recipe.evaluate.forgetting
    general = [forgetting.source] if forgetting and forgetting.source else []
    return [*([data] if isinstance(data, str) else data.values()), *general]


def _refuse(source: str, reason: str) -> SourceError:
    shown = hide_secrets(source)
    return SourceError(
        f"it was not fetched: {reason}. Give rows with --data FILE, or allow this source: --allow-source {shown}.", where=shown
    )


def _find_places(address: str) -> Iterator[tuple[str, int]]:
    """The numbers and ports of the host of a web address."""
    with contextlib.suppress(OSError, ValueError):
        parts = urlsplit(address)
        if parts.scheme in WEB and parts.hostname:
            port = parts.port or (443 if parts.scheme == "https" else 80)
            for info in socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM):
                yield str(info[4][0]), port


def _connect(info: tuple[Any, ...], allowed: Collection[tuple[str, int]]) -> socket.socket:
    """Open a socket for an address that a name was resolved to. Raises NotPublic."""
    family, kind, protocol, _, (host, port, *_) = info
    if (host, port) not in allowed and not _is_public(host):
        raise NotPublic(f"{host} is an address of this machine or of a private network")
    return socket.socket(family, kind, protocol)


def _is_public(host: str) -> bool:
    address = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and address in TRANSLATED:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        address = inner or address
    outside = address.is_multicast or address.is_reserved or getattr(address, "is_site_local", False)
    return address.is_global and not outside
