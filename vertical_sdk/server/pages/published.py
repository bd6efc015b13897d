"""Reading what was published: files that are checked against their digest, cards and evaluations."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

from vertical_sdk.card import CARD, Card, parse_card
from vertical_sdk.errors import CorruptAdapter, UnknownName
from vertical_sdk.evaluation.result import Evaluation
from vertical_sdk.registry.store import Manifest
from vertical_sdk.server.pages.rendering import metric_names

__all__ = ["digest_of", "load_card", "load_evaluation", "load_file", "read_evaluation"]


def digest_of(manifest: Manifest, path: str) -> str:
    """The SHA-256 of a file of a version. Raises CorruptAdapter if the version has no such file."""
    if path not in manifest:
        raise CorruptAdapter(f"{path} is missing.")
    return manifest[path].sha256


def load_file(folder: Path, path: str, sha256: str) -> bytes:
    """Read a file of a version. Raises CorruptAdapter if it is not the published file."""
    try:
        content = (folder / path).read_bytes()
    except OSError as error:
        raise CorruptAdapter(f"{path} cannot be read ({error.strerror}).") from None
    if hashlib.sha256(content).hexdigest() != sha256:
        raise CorruptAdapter(f"{path} has changed since it was published.")
    return content


def load_card(folder: Path, sha256: str) -> Card:
    """Read the card of a version. Raises CorruptAdapter."""
    return parse_card(load_file(folder, CARD, sha256))


@functools.lru_cache(maxsize=512)
def load_evaluation(folder: Path, sha256: str) -> Evaluation | None:
    """Read the evaluation in the card with this digest. The card never changes, so it is read once."""
    return read_evaluation(load_card(folder, sha256))


def read_evaluation(card: Card | None) -> Evaluation | None:
    """The evaluation in a card; None if the card has none that can be read, such as a card written by other software."""
    if card is None or not card.metrics.get("systems"):
        return None
    try:
        systems = {
            key: {"title": "specialist" if key == "adapter" else key} | system
            for key, system in card.metrics["systems"].items()
        }
        plain = {"rows": 0, **card.metrics, "name": card.name, "task": card.task, "systems": systems, "gate": card.gate}
        evaluation = Evaluation.from_dict(plain)
        evaluation.lower_is_better.extend(name for name in metric_names(evaluation) if _lower_is_better(name))
    except (TypeError, KeyError, ValueError, AttributeError):
        return None
    return evaluation


@functools.lru_cache(maxsize=512)
def _lower_is_better(metric: str) -> bool:
    """Whether a lower value of a metric is better; False for an unknown metric."""
    from vertical_sdk.metrics.measure import higher_is_better

    try:
        return not higher_is_better(metric)
    except UnknownName:
        return False
