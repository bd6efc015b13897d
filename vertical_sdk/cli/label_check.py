"""Labels that may be wrong, for `vertical data check --deep`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from vertical_sdk.types import Example

__all__ = ["check_labels"]

FEW = 0.7
"""Share of the labels that are predicted, below which doubts say little."""
SHOWN = 3


def check_labels(rows: Sequence[Example]) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """Describe the labels that may be wrong, for the report, and the problem that they are.

    Raises what `find_doubtful_labels` raises.
    """
    from vertical_sdk.baselines.doubtful_labels import find_doubtful_labels

    doubts, predicted = find_doubtful_labels(rows)
    section = {
        "count": len(doubts),
        "labels_predicted": round(predicted, 3),
        "rows": [asdict(doubt) for doubt in doubts],
    }
    if not doubts:
        return section, []
    examples = "; ".join(
        f"row {one.id} is {one.label!r}, and the others speak for {one.likelier!r} ({one.other:.2f} against {one.given:.2f})"
        for one in doubts[:SHOWN]
    )
    weak = (
        f" Only {predicted:.0%} of all labels are predicted from the others, so many doubts are wrong."
        if predicted < FEW
        else ""
    )
    return section, [
        (
            "warning",
            f"{len(doubts)} labels ({len(doubts) / len(rows):.1%}) may be wrong: {examples}. Look at them (--json lists all).{weak}",
        )
    ]
