"""Why a request is not answered."""

from __future__ import annotations

from vertical_sdk.errors import AdapterError, RunError

__all__ = ["Busy", "Cancelled", "Closed", "RevokedModel", "TooSlow", "UnknownModel", "WrongModel"]


class UnknownModel(AdapterError):
    """No specialist or base has this name here."""


class WrongModel(AdapterError):
    """The specialist or base cannot answer a request of this kind."""


class RevokedModel(AdapterError):
    """The version was revoked, so it answers no more."""


class Busy(RunError):
    """Too many requests wait already.

    seconds  after which another try may succeed
    """

    def __init__(self, message: str, seconds: int = 1) -> None:
        super().__init__(message)
        self.seconds = seconds


class TooSlow(RunError):
    """The answer was not there in time."""


class Closed(RunError):
    """The service ends."""


class Cancelled(Exception):
    """No one waits for the answer any more."""
