"""The backends that a registry may stand on: one file and one line of the table each."""

from __future__ import annotations

import importlib
from pathlib import Path

from vertical_sdk.errors import RegistryError
from vertical_sdk.registry.store import Store

__all__ = ["STORES", "open_store"]

STORES = {
    "file": "vertical_sdk.registry.stores.file:FileStore",
    "hf": "vertical_sdk.registry.stores.hf:HfStore",
    "http": "vertical_sdk.registry.stores.http:http",
    "https": "vertical_sdk.registry.stores.http:https",
    "memory": "vertical_sdk.registry.stores.memory:MemoryStore",
    "mlflow": "vertical_sdk.registry.stores.mlflow:tracked",
    "mlflow+http": "vertical_sdk.registry.stores.mlflow:over_http",
    "mlflow+https": "vertical_sdk.registry.stores.mlflow:over_https",
    "s3": "vertical_sdk.registry.stores.s3:S3Store",
}
"""Scheme → the class, which is called with what stands after "scheme://"."""


def open_store(location: str | Path) -> Store:
    """The store at a location: a folder, or an address such as file:///srv/adapters.

    Raises RegistryError for a scheme that no store knows, or that has not two slashes behind it.
    """
    scheme, colon, rest = str(location).partition("://")
    if not colon:
        meant, found, rest = str(location).partition(":")
        if found and meant in STORES:
            raise RegistryError(
                f"{location}: an address has two slashes: {meant}://{rest.lstrip('/')}. A folder of this name is ./{location}."
            )
        scheme, rest = "file", str(location)
    if scheme not in STORES:
        raise RegistryError(
            f"{location}: no store is called {scheme!r}. Known: {', '.join(sorted(STORES))}; a folder is written as its path."
        )
    module, _, name = STORES[scheme].partition(":")
    store: Store = getattr(importlib.import_module(module), name)(rest)
    return store
