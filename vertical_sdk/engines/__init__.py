"""Engines: what runs adapters on a base. `vertical_sdk.tables.ENGINES` lists them by name."""

from vertical_sdk.engines.engine import Engine, Raw, Stream

__all__ = ["Engine", "Raw", "Stream"]
