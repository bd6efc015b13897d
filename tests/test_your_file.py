"""The nine kinds of file in docs/your-file.md, each by the page's commands: check, new recipe, training, first prediction."""

from __future__ import annotations

import base64
import csv
import datetime
import io
import json
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import topic_rows, write_workbook

from vertical_sdk.cli.app import main

PAGE = Path(__file__).parent.parent / "docs" / "your-file.md"
WORDS = {"skin": "皮肤", "lung": "肺部", "heart": "心脏"}
ROWS = 60
QUICK = (
    *("train.max_steps=2", "train.bf16=false", "train.token_budget=128", "evaluate.resamples=100"),
    *(
        "evaluate.baselines=[majority]",
        "evaluate.gate.beats=[majority]",
        "data.limits.lost=1",
        "data.limits.truncated=1",
        "data.limits.unknown=1",
    ),
)


def write_table(path: Path, rows: Sequence[Sequence[Any]], encoding: str = "utf-8") -> None:
    target = io.StringIO()
    csv.writer(target).writerows(rows)
    path.write_bytes(target.getvalue().encode(encoding))


def write_files(folder: Path) -> None:
    """Write the files of the page, with the columns that it names."""
    rows = topic_rows(ROWS)
    days = [datetime.date(2024, 1, n % 28 + 1) for n in range(ROWS)]
    complaints = [[n, days[n], f"{text}, again", label] for n, (text, label) in enumerate(rows)]
    write_table(
        folder / "complaints.csv", [["Complaint ID", "Date received", "Consumer complaint narrative", "Product"], *complaints]
    )
    write_table(
        folder / "notes.csv",
        [["note", "section"], *([f'{text}\nshe said "{n}"', label] for n, (text, label) in enumerate(rows))],
    )
    collisions = [[n % 5 * 10, "dark" if n % 2 else "day", n, ("slight", "serious")[n % 2]] for n in range(ROWS)]
    write_table(folder / "collisions.csv", [["speed_limit", "light", "hour", "severity"], *collisions])
    claims = [[n, days[n], text, label] for n, (text, label) in enumerate(rows)]
    claimed = [["Claims of 2024"], [], ["id", "received", "text", "team"], *claims]
    write_workbook(folder / "claims.xlsx", {"Cover": [["Claims"]], "Data": claimed})
    write_workbook(folder / "collisions.xlsx", {"Sheet1": [["speed_limit", "light", "hour", "severity"], *collisions]})
    counts = [[*((n * k) % 17 + 30 * (n % 2) for k in range(1, 25)), ("low", "high")[n % 2]] for n in range(ROWS)]
    write_table(folder / "counts.csv", counts)
    contracts = [{"id": f"c{k}", "clauses": [{"text": t, "kind": label} for t, label in rows[k::6]]} for k in range(6)]
    (folder / "contracts.json").write_text(json.dumps({"contracts": contracts}), encoding="utf-8")
    entries: list[dict[str, Any]] = []
    for n, (text, label) in enumerate(rows):
        encounter = {"reference": f"Encounter/e{n}"}
        data = base64.b64encode(text.encode()).decode()
        note = {"resourceType": "DocumentReference", "id": f"d{n}", "context": {"encounter": [encounter]}}
        entries.append({"resource": {**note, "content": [{"attachment": {"contentType": "text/plain", "data": data}}]}})
        condition = {"resourceType": "Condition", "id": f"c{n}", "encounter": encounter}
        entries.append({"resource": {**condition, "code": {"coding": [{"display": label}]}}})
    (folder / "bundle.json").write_text(json.dumps({"resourceType": "Bundle", "entry": entries}), encoding="utf-8")
    chinese = [[f"第{n}位病人说{WORDS[label]}不舒服已经好几天了 {text}", WORDS[label]] for n, (text, label) in enumerate(rows)]
    write_table(folder / "reviews.csv", [["评论", "类别"], *chinese], "gb18030")


def commands() -> list[tuple[str, list[list[str]]]]:
    """The commands of each section of the page that trains a specialist."""
    found = []
    for section in PAGE.read_text(encoding="utf-8").split("\n## ")[1:]:
        title = section.partition("\n")[0]
        block = re.search(r"```console\n(.*?)```", section, re.DOTALL)
        words = [shlex.split(line) for line in block[1].splitlines() if line.startswith("vertical ")] if block else []
        if any(word[1] == "train" for word in words):
            found.append((title, words))
    return found


def test_the_page_has_nine_kinds_of_file() -> None:
    assert len(commands()) == 9


@pytest.mark.slow
@pytest.mark.parametrize(("title", "calls"), commands(), ids=[title for title, _ in commands()])
def test_the_commands_of_the_page_lead_to_a_prediction_for_each_row(
    title: str, calls: list[list[str]], encoder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_files(Path())

    for words in calls:
        words = [name for word in words[1:] for name in (sorted(map(str, Path().glob(word))) if "*" in word else [word])]
        if words[0] == "train":
            words += [part for key in (f"base={encoder}", *QUICK) for part in ("--set", key)]
        if words[0] == "predict":
            words.append("--json")
        capsys.readouterr()
        assert main(words) == 0, capsys.readouterr()

    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(answers) == ROWS
    assert all(answer["label"] for answer in answers)
