from __future__ import annotations

import hashlib
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import topic_recipe, topic_rows, write_csv
from safetensors.numpy import load_file

from vertical_sdk import VerticalModel, train
from vertical_sdk.errors import CorruptAdapter
from vertical_sdk.record_index import RECORD_INDEX, count_records, find_record, write_record_index
from vertical_sdk.types import Example


def write_patient_recipe(folder: Path, encoder: Path, **settings: object) -> Path:
    """Write a recipe on rows of 30 patients; each visit of a patient has an id."""
    rows = [(f"visit-{n}", f"patient {n // 4}", text, label) for n, (text, label) in enumerate(topic_rows(120))]
    data = write_csv(folder / "visits.csv", rows, ("visit", "patient", "text", "label"))
    columns = {"id": "visit", "group": "patient", "text": "text", "label": "label"}
    return topic_recipe(
        folder, encoder, data__source=str(data), data__columns=columns, data__split={"use": "group"},
        train__num_train_epochs=1, **settings
    )  # fmt: skip


def test_each_patient_and_visit_is_found_in_its_part_of_the_data(encoder: Path, tmp_path: Path) -> None:
    run = train(write_patient_recipe(tmp_path, encoder), out=tmp_path / "run")

    visits = {n: find_record(run.adapter, f"visit-{n}", "id") for n in range(120)}
    patients = {n: find_record(run.adapter, f"patient {n}", "group") for n in range(30)}
    assert all(len(parts) == 1 for parts in visits.values())
    assert all(patients[n // 4] == parts for n, parts in visits.items())  # a group is in one part
    assert {part for (part,) in patients.values()} == {"train", "validation", "test"}
    assert sum(counts["id"] for counts in count_records(run.adapter).values()) == 120
    assert sum(counts["group"] for counts in count_records(run.adapter).values()) == 30
    assert find_record(run.adapter, "visit-120", "id") == ()
    assert find_record(run.adapter, "visit-1", "group") == ()
    assert run.card.files[RECORD_INDEX]
    assert VerticalModel.from_pretrained(run.path).predict(["red rash"])


def test_the_index_hides_ids_and_two_runs_share_no_hash(encoder: Path, tmp_path: Path) -> None:
    recipe = write_patient_recipe(tmp_path, encoder)
    first, second = (train(recipe, out=tmp_path / name).adapter for name in ("one", "two"))

    tensors = load_file(first / RECORD_INDEX)
    assert b"visit-" not in (first / RECORD_INDEX).read_bytes()
    assert not set(tensors["train.id"].tolist()) & set(load_file(second / RECORD_INDEX)["train.id"].tolist())
    assert (first / "adapter_model.safetensors").read_bytes() == (second / "adapter_model.safetensors").read_bytes()
    # HMAC-SHA256 by hand (RFC 2104)
    key = tensors["salt"].tobytes().ljust(64, b"\0")
    inner = hashlib.sha256(bytes(b ^ 0x36 for b in key) + b"group\0patient 3").digest()
    outer = hashlib.sha256(bytes(b ^ 0x5C for b in key) + inner).digest()
    assert any(int.from_bytes(outer[:8], "big") in hashes.tolist() for name, hashes in tensors.items() if "group" in name)


def test_rows_without_an_id_column_are_not_indexed(encoder: Path, tmp_path: Path) -> None:
    run = train(topic_recipe(tmp_path, encoder, train__num_train_epochs=1), out=tmp_path / "run")

    assert not (run.adapter / RECORD_INDEX).exists()
    assert count_records(run.adapter) == {}


def test_a_recipe_can_switch_the_index_off(encoder: Path, tmp_path: Path) -> None:
    run = train(write_patient_recipe(tmp_path, encoder, data__remember_ids=False), out=tmp_path / "run")

    assert not (run.adapter / RECORD_INDEX).exists()


def test_an_augmented_copy_counts_as_its_original(tmp_path: Path) -> None:
    rows = [Example("1", record_id="a"), Example("1+0", record_id="a", copy_of="1"), Example("7")]

    assert write_record_index(tmp_path, {"train": rows})

    assert count_records(tmp_path) == {"train": {"id": 1}}
    assert find_record(tmp_path, " a ", "id") == ("train",)
    assert find_record(tmp_path, "7", "id") == ()


@pytest.mark.parametrize("name", ["100", " 100 ", "100.0", "100\u00a0"])
def test_a_record_is_found_by_any_form_of_its_id(tmp_path: Path, name: str) -> None:
    write_record_index(tmp_path, {"test": [Example("1", record_id="100.0", group=" p7")]})

    assert find_record(tmp_path, name, "id") == ("test",)
    assert find_record(tmp_path, "0100", "id") == ()
    assert find_record(tmp_path, "p7", "group") == ("test",)


def test_rows_without_ids_write_no_file(tmp_path: Path) -> None:
    assert not write_record_index(tmp_path, {"train": [Example("1"), Example("2", group="2024-01-01")]}, groups=False)
    assert not (tmp_path / RECORD_INDEX).exists()


def test_a_hundred_thousand_ids_are_indexed_in_two_seconds(tmp_path: Path) -> None:
    rows = [Example(str(n), record_id=f"record-{n}") for n in range(100_000)]
    start = time.process_time()

    write_record_index(tmp_path, {"train": rows})

    assert time.process_time() - start < 2
    hashes = load_file(tmp_path / RECORD_INDEX)["train.id"]
    assert len(hashes) == 100_000
    assert bool((np.diff(hashes.astype(object)) > 0).all())
    assert all(find_record(tmp_path, f"record-{n}", "id") == ("train",) for n in (0, 5, 99_999))


def test_a_cut_index_is_refused(tmp_path: Path) -> None:
    write_record_index(tmp_path, {"train": [Example("1", record_id="a")]})
    (tmp_path / RECORD_INDEX).write_bytes((tmp_path / RECORD_INDEX).read_bytes()[:-4])

    with pytest.raises(CorruptAdapter, match=r"seen\.safetensors cannot be read"):
        find_record(tmp_path, "a", "id")


def test_ids_are_those_of_the_source_if_parts_come_from_several_files(encoder: Path, tmp_path: Path) -> None:
    recipe = write_patient_recipe(tmp_path, encoder)
    data = (tmp_path / "visits.csv").read_text().splitlines()
    for name, part in (("train", data[1:81]), ("validation", data[81:97]), ("test", data[97:])):
        (tmp_path / f"{name}.csv").write_text("\n".join([data[0], *part]) + "\n")
    sources = {name: str(tmp_path / f"{name}.csv") for name in ("train", "validation", "test")}

    run = train(recipe, out=tmp_path / "run", settings={"data.source": sources, "data.split": "given"})

    assert find_record(run.adapter, "visit-0", "id") == ("train",)
    assert find_record(run.adapter, "visit-119", "id") == ("test",)
    assert find_record(run.adapter, "train:visit-0", "id") == ()
