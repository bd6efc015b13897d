"""Files that a reader creates, such as the output of a simulation: created once, then read from the cache for equal settings."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from vertical_sdk.paths import cache_home
from vertical_sdk.sources.keep import FILES, build_folder, finish_folder, read_record

__all__ = ["build_once"]


def build_once(kind: str, settings: Mapping[str, Any], build: Callable[[Path], None]) -> Path:
    """Return a folder with the files that `build` writes. Equal settings are built once, then read from the cache.

    kind      the folder in the cache, in small letters
    settings  everything that the files depend on, as plain data, including the versions of the tools that write them
    build     receives an empty folder, and writes the files into it

    The folder is complete or missing: nothing is saved if `build` fails or is killed. If two processes need the same folder, one
    builds it and the other waits. Read the folder, never write to it.

    Raises RunError if the cache cannot be written, and every error of `build`.
    """
    home = cache_home() / kind
    key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:24]
    target = home / key
    if read_record(target) is None:
        with build_folder(home, key) as temporary:
            if read_record(target) is None:
                built = temporary / "built"
                (built / FILES).mkdir(parents=True)
                build(built / FILES)
                finish_folder(built, target, {"settings": dict(settings)})
    return target / FILES
