"""The command line, `vertical`: one file for each verb, which imports what it needs when it is called."""

from __future__ import annotations

from vertical_sdk.cli.app import main

__all__ = ["main"]
