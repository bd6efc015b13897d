"""What a base alone reaches on general text. It does not depend on an adapter, so it is measured once and kept in the cache folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence

from vertical_sdk.baselines.kept_features import describe_reading
from vertical_sdk.card import Fingerprint
from vertical_sdk.families.specialist import Specialist, switched_off
from vertical_sdk.measurements import measure_once

__all__ = ["measure_base"]

FILE = "general-text.json"


def measure_base(
    specialist: Specialist, texts: Sequence[str], measure: Callable[[], float], fingerprint: Fingerprint | None
) -> float:
    """Measure with the adapter off, or return what was measured for the same base and texts before.

    Only a digest of base and texts and the number are written, never a text. They belong to the way in which the specialist reads
    (pooling, the longest text, types of weights, device), the processor, and the versions of torch and transformers.

    fingerprint  of the base; None: measure now and keep nothing
    """
    if fingerprint is None:
        return _measure_now(specialist, measure)
    return measure_once(FILE, _digest(specialist, texts, fingerprint), lambda: _measure_now(specialist, measure), float)


def _measure_now(specialist: Specialist, measure: Callable[[], float]) -> float:
    with switched_off(specialist):
        return measure()


def _digest(specialist: Specialist, texts: Sequence[str], fingerprint: Fingerprint) -> str:
    """The digest of everything that the result depends on."""
    return hashlib.sha256(json.dumps([*describe_reading(specialist, fingerprint), list(texts)]).encode()).hexdigest()
