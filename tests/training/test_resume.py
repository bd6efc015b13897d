"""A stopped run continues only with the recipe, the rows and the base that it began with."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import save_encoder, topic_recipe, topic_rows, write_csv

from vertical_sdk import train
from vertical_sdk.errors import RunError
from vertical_sdk.paths import file_digest


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a base, topics.csv, topics.yaml and a run that was stopped after its second checkpoint."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("stopped")
    recipe = topic_recipe(folder, save_encoder(folder / "base"), train__save_steps=2, train__max_steps=6)

    def stop(what: str, share: float | None = None) -> None:
        if what == "training" and share is not None and share > 0.7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(recipe, out=folder / "run", progress=stop)
    return folder


@pytest.fixture
def project(stopped: Path, tmp_path: Path) -> Iterator[Path]:
    """The same folder at the same path, which a test may change; it is put back afterwards."""
    shutil.copytree(stopped, tmp_path / "copy")
    yield stopped
    shutil.rmtree(stopped)
    shutil.copytree(tmp_path / "copy", stopped)


def read_files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def rename_label(project: Path) -> None:
    write_csv(project / "topics.csv", [(text, "zz-skin" if label == "skin" else label) for text, label in topic_rows(120)])


def append_rows(project: Path) -> None:
    write_csv(project / "topics.csv", topic_rows(180))


def append_a_fourth_label(project: Path) -> None:
    write_csv(project / "topics.csv", [*topic_rows(120), *((f"bone crack {n}", "bone") for n in range(60))])


def append_an_empty_line(project: Path) -> None:
    with (project / "topics.csv").open("a") as file:
        file.write("\n")


@pytest.mark.parametrize("change", [rename_label, append_rows, append_a_fourth_label, append_an_empty_line])
def test_run_is_not_resumed_with_other_data(change: Callable[[Path], None], project: Path) -> None:
    change(project)
    before = read_files(project / "run")

    with pytest.raises(RunError, match=r"run: the data has changed since this run began: .*topics\.csv now has other bytes"):
        train(project / "topics.yaml", out=project / "run", resume=True)

    assert read_files(project / "run") == before


def test_message_names_labels_and_counts_that_differ(project: Path) -> None:
    append_a_fourth_label(project)

    with pytest.raises(RunError) as caught:
        train(project / "topics.yaml", out=project / "run", resume=True)

    # of the 60 rows of the fourth label, 75% are for training, as of the 120 others
    assert "the labels were 'heart', 'lung', 'skin', and are now 'bone', 'heart', 'lung', 'skin'" in str(caught.value)
    assert "train has 135 rows instead of 90" in str(caught.value)


def test_run_is_not_resumed_with_other_settings(project: Path) -> None:
    with pytest.raises(RunError, match=r"other settings: train\.learning_rate is 0\.5, and was 0\.01\. Resume"):
        train(project / "topics.yaml", out=project / "run", resume=True, settings={"train.learning_rate": 0.5})


def test_run_is_not_resumed_on_another_base(project: Path) -> None:
    shutil.rmtree(project / "base")
    save_encoder(project / "base", seed=5)

    with pytest.raises(RunError, match="the base model has other weights than when this run began"):
        train(project / "topics.yaml", out=project / "run", resume=True)


def test_run_whose_rows_are_prepared_in_another_way_is_not_resumed(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        sys.modules["vertical_sdk.data.prepare"], "apply_prompt", lambda row, _prompt: replace(row, text=f"x {row.text}")
    )

    with pytest.raises(RunError, match="the rows of train differ, the rows of validation differ, the rows of test differ"):
        train(project / "topics.yaml", out=project / "run", resume=True)


def test_run_without_a_readable_record_is_not_resumed(project: Path) -> None:
    (project / "run" / "start.json").write_text("{")
    with pytest.raises(RunError, match=r"start\.json cannot be read, so it is unknown"):
        train(project / "topics.yaml", out=project / "run", resume=True)
    (project / "run" / "start.json").unlink()
    with pytest.raises(RunError, match=r"start\.json is missing, so it is unknown"):
        train(project / "topics.yaml", out=project / "run", resume=True)


def test_record_names_the_bytes_and_the_labels(stopped: Path) -> None:
    recorded = json.loads((stopped / "run" / "start.json").read_text())

    assert recorded["sources"][0]["sha256"] == file_digest(stopped / "topics.csv")
    assert recorded["labels"] == ["heart", "lung", "skin"]
    assert {split: count for split, (count, _) in recorded["rows"].items()} == {"train": 90, "validation": 12, "test": 18}


def test_other_versions_of_the_libraries_are_reported(project: Path) -> None:
    path = project / "run" / "start.json"
    recorded = json.loads(path.read_text())
    recorded["versions"]["peft"] = "0.1"
    path.write_text(json.dumps(recorded))
    lines: list[str] = []

    run = train(
        project / "topics.yaml", out=project / "run", resume=True, progress=lambda what, _share=None: lines.append(what)
    )

    assert run.resumed_from == 4
    assert any("instead of 0.1: the weights may differ" in line for line in lines)


def test_unfinished_run_with_other_settings_is_not_passed_over(
    project: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "work" / "runs").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "work")
    shutil.copytree(project / "run", Path("runs") / "topics-20200101-000000")

    with pytest.raises(RunError, match=r"this run has other settings: train\.seed is 3, and was None"):
        train(project / "topics.yaml", resume=True, settings={"train.seed": 3})

    assert [path.name for path in Path("runs").iterdir()] == ["topics-20200101-000000"]
