"""What a reader makes itself, such as a simulation's output: made once, and kept in the cache for as long as it is asked for alike."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from vertical_sdk.paths import cache_home
from vertical_sdk.sources.keep import FILES, build_folder, finish_folder, read_record

__all__ = ["build_once"]


def build_once(kind: str, settings: Mapping[str, Any], make: Callable[[Path], None]) -> Path:
    """A folder with the files that `make` writes, from the cache where they were made before.

    kind      the folder of the cache that it lies in, in small letters
    settings  all that the files depend on, as plain data, the versions of what makes them too
    make      is given an empty folder, and leaves in it what is to be kept

    The folder is whole or not there: where `make` fails or is killed nothing is kept, and of two processes that want the same one
    makes it while the other waits. Read it, never write to it.

    Raises RunError where the cache cannot be written, and what `make` raises.
    """
    home = cache_home() / kind
    key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:24]
    target = home / key
    if read_record(target) is None:
        with build_folder(home, key) as temporary:
            if read_record(target) is None:
                built = temporary / "built"
                (built / FILES).mkdir(parents=True)
                make(built / FILES)
                finish_folder(built, target, {"settings": dict(settings)})
    return target / FILES
