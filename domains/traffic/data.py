"""Readers for traffic; each has a file of its own."""

from __future__ import annotations

from .casualties import casualties
from .crashes import crashes
from .incidents import incidents, marked_series
from .routes import streets
from .sensors import sensors
from .volumes import interstate

__all__ = ["casualties", "crashes", "incidents", "interstate", "marked_series", "sensors", "streets"]
