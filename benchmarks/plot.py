"""Draw docs/images/performance.png from what training.py measured.

    python benchmarks/training.py --json ... > FILE
    python benchmarks/plot.py FILE

Each bar is how many times as fast as plain transformers.Trainer + PEFT a system trained, in the median of the rounds; the line is its range.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

TARGET = Path(__file__).parent.parent / "docs" / "images" / "performance.png"


def draw(measured: dict[str, Any], target: Path) -> None:
    """Draw the bars of a document of training.py."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot

    bars = [
        (f"{result['task']}, {result['dtype']}: {system}", own["speedup"], system)
        for result in measured["results"]
        for system, own in result.items()
        if isinstance(own, dict) and "speedup" in own
    ][::-1]
    figure, axes = pyplot.subplots(figsize=(8, 1.2 + 0.32 * len(bars)), layout="constrained")
    values = [speed["median"] for _, speed, _ in bars]
    below = [speed["median"] - speed["least"] for _, speed, _ in bars]
    above = [speed["most"] - speed["median"] for _, speed, _ in bars]
    colours = ["#2a6f97" if system == "sdk" else "#b7b7b7" for *_, system in bars]
    axes.barh([name for name, *_ in bars], values, xerr=[below, above], color=colours, ecolor="#444444", capsize=2)
    axes.axvline(1, color="#444444", linewidth=0.8)
    axes.set_xlabel("times as fast as plain transformers.Trainer + PEFT")
    axes.set_title(
        f"{measured['processor']}, {measured['threads']} threads, torch {measured['torch']}, "
        f"{measured['rounds']} rounds of {measured['steps']} steps",
        fontsize=9,
    )
    for spine in ("top", "right"):
        axes.spines[spine].set_visible(False)
    figure.savefig(target, dpi=120, metadata={"Software": None})


def main() -> None:
    """Draw a file."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("file", type=Path)
    options.add_argument("--out", type=Path, default=TARGET)
    chosen = options.parse_args()
    draw(json.loads(chosen.file.read_text(encoding="utf-8")), chosen.out)


if __name__ == "__main__":
    main()
