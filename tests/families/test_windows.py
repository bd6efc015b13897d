"""Long texts in windows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import save_encoder
from vertical_sdk.bases.base import pull_base
from vertical_sdk.errors import DataError, RecipeError
from vertical_sdk.families.specialist import create_specialist, run_rows
from vertical_sdk.families.windows import Windows
from vertical_sdk.kernels.fused_lora import fast_training
from vertical_sdk.recipe import Limits, load_recipe
from vertical_sdk.training.encode import encode_rows
from vertical_sdk.training.packing import find_obstacle
from vertical_sdk.types import Example, LabelSpace


def _specialist(folder: Path, **data: Any) -> Any:
    save_encoder(folder)
    recipe = load_recipe(
        {
            "name": "long",
            "task": "classification",
            "base": str(folder),
            "data": {"source": "rows.csv", **data},
            "adapter": {"r": 2},
        }
    )
    torch.manual_seed(0)
    specialist: Any = create_specialist(pull_base(str(folder)), recipe, LabelSpace(("a", "b")))
    return specialist


def _row(words: int) -> Example:
    return Example(id=str(words), text=" ".join(("pain", "road", "bank")[n % 3] for n in range(words)))


def test_windows_overlap_by_an_eighth_and_together_are_the_text() -> None:
    windows = Windows(size=18, extra=2, most=4)  # 16 tokens of the text, of which 2 are repeated
    parts = list(windows.divide(tuple(range(50))))

    assert [(part[0], part[-1]) for part in parts] == [(0, 15), (14, 29), (28, 43), (42, 49)]
    assert windows.reads == 18 + 3 * 14
    assert [windows.count(tokens) for tokens in (1, 18, 19, 32, 33, 60)] == [1, 1, 2, 2, 3, 4]
    assert list(windows.divide(tuple(range(99))))[-1][-1] == windows.reads - 2 - 1


def test_features_are_the_mean_over_the_tokens_of_all_windows(tmp_path: Path) -> None:
    specialist = _specialist(tmp_path, max_length=16, windows=5)
    text = " ".join(["pain"] * 9 + ["road"] * 9 + ["bank"] * 9)
    long, short = Example(id="long", text=text), Example(id="short", text="pain road")
    encoded = encode_rows(specialist, [long, short], learn=False)
    pieces = encoded[0].pieces
    ids = specialist.text_tokenizer.encode(text).ids
    first, last = specialist.text_tokenizer.encode("", special=True).ids

    assert len(pieces) > 2
    assert all(piece[0] == first and piece[-1] == last and len(piece) <= 16 for piece in pieces)
    assert pieces[0][1:-1] == ids[:14]
    assert pieces[-1][-2] == ids[-1]
    assert encoded[0].cut == 0

    with torch.no_grad():
        states = [specialist.backbone(input_ids=torch.tensor([piece])).last_hidden_state[0] for piece in pieces]
    expected = torch.cat(states).mean(0)
    batched = run_rows(specialist, encoded, specialist.features)
    alone = run_rows(specialist, encoded[1:], specialist.features)

    torch.testing.assert_close(batched[0], expected / expected.norm(), atol=1e-5, rtol=0)
    torch.testing.assert_close(batched[1], alone[0], atol=1e-5, rtol=0)


def test_training_reads_windows_without_padding(tmp_path: Path) -> None:
    specialist = _specialist(tmp_path, max_length=16, windows=5)
    rows = encode_rows(specialist, [_row(words) for words in (3, 20, 44, 9)], learn=False)

    with fast_training(specialist.backbone, bf16=False), torch.no_grad():
        obstacle = find_obstacle(specialist, rows, checkpointing=False)
        packed = specialist.features(specialist.pack(rows))
    padded = run_rows(specialist, rows, specialist.features)

    assert any(row.windows for row in rows)
    assert obstacle == ""
    torch.testing.assert_close(packed, padded, atol=1e-5, rtol=0)


def test_a_text_that_needs_more_windows_says_how_many(tmp_path: Path) -> None:
    specialist = _specialist(tmp_path, max_length=16, windows=2)
    rows = [_row(40)]
    base = pull_base(str(tmp_path))
    tokens = len(specialist.encode(rows[0], learn=False).ids)

    with pytest.raises(DataError, match=r"Set data\.windows: (\d+)\.") as caught:
        encode_rows(specialist, rows, learn=False, limits=Limits(unknown=1.0), base=base)

    needed = int(str(caught.value).rsplit(": ", 1)[1].rstrip("."))
    enough = _specialist(tmp_path, max_length=16, windows=needed)
    assert specialist.encode(rows[0], learn=False).cut > 0
    assert enough.encode(rows[0], learn=False).cut == 0
    assert len(enough.encode(rows[0], learn=False).ids) > tokens


def test_only_encoders_read_windows(tmp_path: Path) -> None:
    from tests.conftest import save_causal

    save_causal(tmp_path)
    recipe = load_recipe(
        {"name": "long", "task": "classification", "base": str(tmp_path), "data": {"source": "rows.csv", "windows": 2}}
    )
    with pytest.raises(RecipeError, match="Leave it out, or choose an encoder"):
        create_specialist(pull_base(str(tmp_path)), recipe, LabelSpace(("a", "b")))


def test_a_recipe_without_windows_keeps_its_digest() -> None:
    recipe = load_recipe("medical/icd-chapter")

    assert "windows" not in recipe.to_dict()["data"]
    assert recipe.replace({"data.windows": 3}).digest != recipe.digest
