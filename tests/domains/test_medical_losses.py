import math

import pytest
import torch
import torch.nn.functional as F

from vertical_sdk import catalog
from vertical_sdk.losses import IGNORE, get_token_finder
from vertical_sdk.types import LabelSpace

faithful = catalog.losses.get("medical.faithful")
SPACE = LabelSpace(("no", "maybe", "yes"), counts={"no": 30, "maybe": 10, "yes": 60})
P = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.6, 0.3]])


def test_unlikelihood_is_added_for_each_token_to_avoid() -> None:
    avoid = torch.tensor([[1, 2], [0, -1]])
    labels = torch.tensor([0, 1])
    expected = (-math.log(0.5) - 0.5 * (math.log(0.7) + math.log(0.8)) - math.log(0.6) - 0.5 * math.log(0.9)) / 2

    assert faithful(P.log(), labels, avoid, weight=0.5).item() == pytest.approx(expected, rel=1e-5)


def test_without_weight_or_tokens_it_is_cross_entropy() -> None:
    labels = torch.tensor([0, 1])
    plain = F.cross_entropy(P.log(), labels)

    torch.testing.assert_close(faithful(P.log(), labels, torch.tensor([[1], [0]]), weight=0.0), plain)
    torch.testing.assert_close(faithful(P.log(), labels, torch.zeros(2, 0, dtype=torch.long)), plain)


def test_ignored_tokens_cost_nothing_and_gradients_are_finite() -> None:
    far = torch.tensor([[200.0, -200.0, 0.0], [-300.0, 300.0, 300.0], [1.0, 2.0, 3.0]], requires_grad=True)
    faithful(far, torch.tensor([1, 0, IGNORE]), torch.tensor([[0, 2], [1, 2], [0, 1]])).backward()
    assert far.grad is not None
    assert far.grad.isfinite().all()
    assert not far.grad[2].any()

    none = torch.randn(1, 3, requires_grad=True)
    loss = faithful(none, torch.tensor([IGNORE]), torch.tensor([[0]]))
    loss.backward()
    assert loss.item() == 0.0


class Letters:
    """A tokenizer of single characters, but for the pieces named."""

    def __init__(self, *pieces: str) -> None:
        self.texts = [*pieces, *(chr(c) for c in range(32, 127)), "\n"]

    def __len__(self) -> int:
        return len(self.texts)

    def batch_decode(self, rows: list[list[int]]) -> list[str]:
        return ["".join(self.texts[token] for token in row) for row in rows]

    def __call__(self, text: str, add_special_tokens: bool = False) -> dict[str, list[int]]:
        ids = []
        while text:
            longest = max((piece for piece in self.texts if text.startswith(piece)), key=len)
            ids.append(self.texts.index(longest))
            text = text[len(longest) :]
        return {"input_ids": ids}


def avoided(question: str, answer: str, *pieces: str) -> list[set[str]]:
    from vertical_sdk.domains.medical.faithfulness import make_unsupported_token_finder

    tokenizer = Letters(*pieces)
    found = make_unsupported_token_finder(tokenizer)(question, tokenizer(answer)["input_ids"])
    return [{tokenizer.texts[token] for token in ids} for ids in found]


def test_digits_that_begin_no_number_of_the_question_are_avoided() -> None:
    digits = [{c for c in ids if c.isdigit()} for ids in avoided("I am seventy six, and took 20 mg.", "a 76 b")]

    # a number may begin with 7 or 6 ("seventy", "six") or 2, or with a 0 before them; after 7 comes 6 or 0; after 76 nothing
    begins = set("1345 89") - {" "}
    assert digits == [begins, begins, begins, set("12345789"), set("0123456789"), begins]


def test_the_answers_own_token_is_never_avoided() -> None:
    assert "9" not in avoided("I am seventy six.", "9")[0]
    assert "9" in avoided("I am seventy six.", "8")[0]


def test_drugs_that_nobody_spoke_of_are_avoided_where_they_would_begin_or_go_on() -> None:
    pieces = (" lisin", "opril", " met", "formin", "oprolol", " warfarin", " we", "llbutrin")

    found = avoided("I take metformin.", "x metoprolol", *pieces)

    assert found[0] & set(pieces) == {" lisin", " warfarin"}
    assert found[-1] & set(pieces) == {" lisin", " warfarin"}
    assert "oprolol" in avoided("I take metformin.", "x metformin", *pieces)[-1]
    assert " lisin" not in avoided("I take lisinopril.", "x", *pieces)[0]


def test_only_a_loss_with_prepare_has_a_token_finder() -> None:
    from vertical_sdk.recipe import load_recipe

    note = load_recipe("medical/dialogue-note")

    assert get_token_finder(note) is not None
    assert get_token_finder(note.replace({"loss": "cross_entropy"})) is None
    assert get_token_finder(note.replace({"loss": None})) is None
