"""The backends of a registry: one file and one line of the table each."""

from __future__ import annotations

import importlib
from pathlib import Path

from vertical_sdk.errors import RegistryError
from vertical_sdk.registry.store import Store

__all__ = ["STORES", "open_store"]

STORES = {
    "file": "vertical_sdk.registry.stores.file:FileStore",
    "hf": "vertical_sdk.registry.stores.hf:HfStore",
    "http": "vertical_sdk.registry.stores.http:open_http",
    "https": "vertical_sdk.registry.stores.http:open_https",
    "memory": "vertical_sdk.registry.stores.memory:MemoryStore",
    "mlflow": "vertical_sdk.registry.stores.mlflow:open_tracking_server",
    "mlflow+http": "vertical_sdk.registry.stores.mlflow:open_http",
    "mlflow+https": "vertical_sdk.registry.stores.mlflow:open_https",
    "s3": "vertical_sdk.registry.stores.s3:S3Store",
}
"""Scheme → a class or a function. It is called with the part of the address after "scheme://"."""


def open_store(location: str | Path) -> Store:
    """Open the store at a location: a folder, or an address such as file:///srv/adapters.

    Raises RegistryError if no store has the scheme, or if the scheme is not followed by two slashes.
    """
    scheme, separator, rest = str(location).partition("://")
    if not separator:
        scheme, colon, rest = str(location).partition(":")
        if colon and scheme in STORES:
            raise RegistryError(
                f"an address has two slashes: {scheme}://{rest.lstrip('/')}. Write a folder of this name as ./{location}.",
                where=location,
            )
        scheme, rest = "file", str(location)
    if scheme not in STORES:
        raise RegistryError(
            f"{location}: no store has the scheme {scheme!r}. Known: {', '.join(sorted(STORES))}. Write a folder as its path."
        )
    module, _, name = STORES[scheme].partition(":")
    try:
        store: Store = getattr(importlib.import_module(module), name)(rest)
    except (ValueError, OSError):  # a null character, an IPv6 address without its end, a path that is too long
        shown = f"{str(location)[:100]!a}{'…' * (len(str(location)) > 100)}"
        raise RegistryError(f"{shown} cannot be the place of a registry. Write a folder's path, or an address.") from None
    return store
