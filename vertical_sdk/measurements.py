"""Measurements that are made once and kept in a file of the cache folder."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from typing import Any, TypeVar

from vertical_sdk.errors import RunError
from vertical_sdk.paths import cache_home, write_whole

__all__ = ["measure_once"]

T = TypeVar("T")


def measure_once(file: str, key: str, measure: Callable[[], Any], parse: Callable[[Any], T], *, most: int = 200) -> T:
    """Return the kept measurement of this key, or measure, keep and return it.

    file     its name in the cache folder; in JSON, newest last
    measure  returns what can be written as JSON
    parse    makes the result of it. What is kept is measured again if this raises ValueError, TypeError or AttributeError
    most     measurements that are kept

    A file that is damaged is written again. One that cannot be written is left, and it is measured again next time.
    """
    path = cache_home() / file
    known: dict[str, Any] = {}
    with contextlib.suppress(OSError, ValueError, AttributeError):
        known = dict(json.loads(path.read_bytes()).items())
    if key in known:
        with contextlib.suppress(ValueError, TypeError, AttributeError):
            return parse(known[key])
    known.pop(key, None)
    known[key] = measure()
    with contextlib.suppress(OSError, RunError):
        write_whole(path, json.dumps(dict(list(known.items())[-most:]), indent=1) + "\n")
    return parse(known[key])
