"""Every input that fuzzing has found, once more: a fault that was fixed stays fixed."""

from __future__ import annotations

from pathlib import Path

import pytest
from fuzz.targets import TARGETS

CORPUS = Path(__file__).parent / "corpus"


@pytest.mark.parametrize("name", TARGETS)
def test_known_inputs_are_read_or_refused(name: str) -> None:
    """An input raises an error of vertical_sdk, or none."""
    target = TARGETS[name]
    honest, *others = target.seeds()
    target.run(honest)
    for content in others:
        target(content)
    for path in sorted((CORPUS / name).glob("*")):
        target(path.read_bytes())
