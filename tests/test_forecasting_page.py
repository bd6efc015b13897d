"""Run the recipes and the Python of the forecasting page, from the first block to the last, on a tiny base."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from vertical_sdk.cli import main

PAGE = Path(__file__).parent.parent / "docs" / "forecasting.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def test_forecasting_page_runs_from_a_file_to_forecasts_and_alarms(encoder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, block in zip(("counts", "watch"), blocks("yaml"), strict=True):
        Path(f"{name}.yaml").write_text(block.replace("minilm-l6", str(encoder)), encoding="utf-8")
    names: dict[str, object] = {}

    for block in blocks("python"):
        exec(compile(block, "forecasting.md", "exec"), names)

    output = capsys.readouterr().out
    assert "2024-02-26 00:00:00" in output  # eight weeks after the first Monday of 2024
    assert main(["evaluate", "runs/watch", "--json"]) == 0
    assert main(["forecast", "runs/counts", "--data", "counts.csv", "--horizon", "3"]) == 0
    assert "2024-02-26T02:00:00" in capsys.readouterr().out
    assert main(["monitor", "runs/watch", "--data", "counts.csv"]) == 0
    assert "2024-02-24T04:00:00" in capsys.readouterr().out  # hour 1300, a wrong value of the page
