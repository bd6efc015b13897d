"""Engines: what runs adapters on a base. `vertical_sdk.tables.ENGINES` lists them by name."""

from vertical_sdk.engines.engine import Engine, Raw, Stream
from vertical_sdk.engines.on_demand import OnDemandEngine

__all__ = ["Engine", "OnDemandEngine", "Raw", "Stream"]
