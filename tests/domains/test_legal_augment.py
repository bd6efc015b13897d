"""The legal vertical's augmentations, loss and metric."""

from __future__ import annotations

import random
import re
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import f1_score

from vertical_sdk.catalog import augmentations, losses
from vertical_sdk.losses import IGNORE
from vertical_sdk.metrics import bind
from vertical_sdk.types import Example, LabelSpace, Message

torch.set_num_threads(1)
CONTRACT = (
    'Acme Widgets, Inc. ("Acme") grants to HealthGate a licence. Acme shall not assign it. IBM will pay HealthGate; the Company '
    "shall indemnify Licensee, and Licensor shall not sue the Buyer, the Seller or any Affiliate. Company's liability under "
    "Section 12.3(a) and 17 U.S.C. § 107 is limited to $1,000,000, except for no breach that cannot be cured."
)


def changed(name: str, text: str, seed: int = 0, **options: Any) -> str:
    made: Example = augmentations.get(name)(Example("1", text, "label", group="g"), random.Random(seed), **options)
    assert (made.id, made.target, made.group) == ("1", "label", "g")
    return made.text


ALL = ["legal.rename_parties", "legal.mask_citations", "legal.ocr_noise", "legal.mask_holders"]


@pytest.mark.parametrize("name", ALL)
def test_negations_roles_and_labels_stay_and_the_same_seed_does_the_same(name: str) -> None:
    for seed in range(60):
        made = changed(name, CONTRACT, seed, p=0.7)

        assert made == changed(name, CONTRACT, seed, p=0.7)
        assert re.findall(r"\b(?:not|no|cannot|except)\b", made) == re.findall(r"\b(?:not|no|cannot|except)\b", CONTRACT)
        assert "$1,000,000" in made
        if name != "legal.ocr_noise":
            roles = r"\b(?:Licensee|Licensor|Buyer|Seller|Affiliate)\b"
            assert re.findall(roles, made) == re.findall(roles, CONTRACT)


@pytest.mark.parametrize("name", ALL)
def test_with_probability_zero_nothing_changes(name: str) -> None:
    assert changed(name, CONTRACT + " Copyright (c) 2001 Jane Doe", p=0.0) == CONTRACT + " Copyright (c) 2001 Jane Doe"


def test_a_party_has_one_new_name_everywhere() -> None:
    for seed in range(40):
        made = changed("legal.rename_parties", CONTRACT, seed, p=1.0)
        full, short, other, again, capitals, other_again, company, company_again = re.match(
            r"(\w+), Inc\. \(\"(\w+)\"\) grants to (\w+) a licence\. (\w+) shall not assign it\. (\w+) will pay (\w+); (\w+) shall "
            r"indemnify Licensee, .* any Affiliate\. (\w+)'s liability",
            made,
        ).groups()  # type: ignore[union-attr]

        assert (short, other, company) == (again, other_again, company_again)
        assert capitals.isupper()
        assert len({full, short, other, capitals, company}) == 5
        assert not {"Acme", "HealthGate", "IBM", "Company"} & set(re.findall(r"\w+", made))


@pytest.mark.parametrize(
    "text",
    [
        "Licensor shall pay Licensee, and LICENSEE shall pay.",
        'The "Renewal Term" and the "Territory" are as in Exhibit B.',
        "NEITHER PARTY SHALL BE LIABLE FOR ANY DAMAGES.",
        "The FDA shall decide under GAAP.",
        "any insurance company or limited liability company",
        "An Insurance Company shall insure.",
    ],
)
def test_words_with_a_contract_meaning_are_not_parties(text: str) -> None:
    for seed in range(20):
        assert changed("legal.rename_parties", text, seed, p=1.0) == text


def test_only_what_the_user_says_is_renamed_and_alike_in_all_turns() -> None:
    turns = (Message("user", "HealthGate pays."), Message("assistant", "HealthGate?"), Message("user", "Yes, HealthGate."))

    made = augmentations.get("legal.rename_parties")(Example("1", messages=turns), random.Random(0), p=1.0)

    first, answer, last = (turn.content for turn in made.messages)
    assert answer == "HealthGate?"
    assert first != "HealthGate pays."
    assert last == f"Yes, {first.removesuffix(' pays.')}."


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("See 123 F.3d 456 (9th Cir. 1999) and 410 U.S. 113, 120 (1973).", "See [CITATION] and [CITATION]."),
        ("under 15 U.S.C. § 78j(b) and 17 CFR 240.10b-5", "under [CITATION] and [CITATION]"),
        ("pursuant to Section 12.3(a), Article IX and Clauses 4 and 5", "pursuant to [CITATION], [CITATION] and [CITATION]"),
        ("as §§ 2.1, 2.2 say", "as [CITATION] say"),
        ("Regulation (EU) 2016/679 and Directive 93/13/EEC", "[CITATION] and [CITATION]"),
        ("within 30 days of 3 March 2024, 5 F keys", "within 30 days of 3 March 2024, 5 F keys"),
        ("a section of the article", "a section of the article"),
    ],
)
def test_citations_are_masked_and_quantities_are_not(before: str, after: str) -> None:
    assert changed("legal.mask_citations", before, p=1.0) == after


def test_noise_is_what_a_scanner_makes_and_rare() -> None:
    made = changed("legal.ocr_noise", "the term shall all follow IBM Obligations " * 200, p=0.02)

    words = made.split()
    wrong = sum(word not in {"the", "term", "shall", "all", "follow", "IBM", "Obligations"} for word in words)
    assert 0 < wrong < 0.04 * 1400


def test_noise_leaves_negations_numbers_and_placeholders_alone() -> None:
    text = "not no nor cannot shouldn't non-exclusive without [CITATION] 10l0 unless"

    for seed in range(50):
        assert changed("legal.ocr_noise", text, seed, p=1.0) == text


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("Copyright (c) 2004-2010 Jane Doe Inc. All rights reserved.", "Copyright (c) [YEAR] [HOLDER] All rights reserved."),
        ("(C) 1999, 2001 by The Project\nUse it.", "(C) [YEAR] [HOLDER]\nUse it."),
        ("Copyright 1999 Calvin Tai", "Copyright [YEAR] [HOLDER]"),
        ("Mail jane@example.org or see https://example.org/x.", "Mail [EMAIL] or see [URL]."),
        ("the above copyright notice and this permission notice", "the above copyright notice and this permission notice"),
        ("under copyright law (c) of this section", "under copyright law (c) of this section"),
    ],
)
def test_holders_years_and_addresses_are_masked_and_conditions_are_not(before: str, after: str) -> None:
    assert changed("legal.mask_holders", before, p=1.0) == after


LOGITS = torch.tensor([[2.0, 0.0, -1.0], [0.0, 1.0, 0.5], [9.0, 9.0, 0.0], [-1.0, 0.3, 2.0]])
LABELS = torch.tensor([0, 2, IGNORE, 1])
COUNTS = {"a": 90, "b": 9, "c": 1}
SPACE = LabelSpace(("a", "b", "c"), counts=COUNTS)


def test_the_long_tail_loss_is_its_formula_written_out() -> None:
    weights = torch.tensor([(1 - 0.9) / (1 - 0.9**n) for n in COUNTS.values()])
    weights *= 100 / (weights * torch.tensor([90.0, 9.0, 1.0])).sum()
    moved = LOGITS + 0.3 * torch.tensor([0.9, 0.09, 0.01]).log()
    rows = [weights[y] * -moved[i].log_softmax(0)[y] for i, y in ((0, 0), (1, 2), (3, 1))]

    found = losses.get("legal.long_tail")(LOGITS, LABELS, SPACE, tau=0.3, beta=0.9)

    torch.testing.assert_close(found, torch.stack(rows).mean())


def test_it_is_each_of_its_parts_where_the_other_is_off() -> None:
    long_tail = losses.get("legal.long_tail")

    balanced = losses.get("class_balanced")(LOGITS, LABELS, SPACE, beta=0.99, smoothing=0.1)
    adjusted = losses.get("logit_adjusted")(LOGITS, LABELS, SPACE, tau=0.7, smoothing=0.1)
    torch.testing.assert_close(long_tail(LOGITS, LABELS, SPACE, tau=0.0, beta=0.99, smoothing=0.1), balanced)
    torch.testing.assert_close(long_tail(LOGITS, LABELS, SPACE, tau=0.7, beta=0.0, smoothing=0.1), adjusted)
    plain = F.cross_entropy(LOGITS, LABELS, ignore_index=IGNORE)
    torch.testing.assert_close(long_tail(LOGITS, LABELS, SPACE, tau=0.0, beta=0.0), plain)


def test_its_mean_over_a_batch_is_that_of_its_parts_and_its_gradient_is_finite() -> None:
    long_tail = losses.get("legal.long_tail")
    far = (100 * LOGITS).requires_grad_()
    labels = torch.tensor([0, 2, 1, 1])

    long_tail(far, labels, SPACE, beta=1.0).backward()
    parts = (long_tail(LOGITS[:1], labels[:1], SPACE) + 3 * long_tail(LOGITS[1:], labels[1:], SPACE)) / 4

    assert far.grad is not None
    assert far.grad.isfinite().all()
    torch.testing.assert_close(long_tail(LOGITS, labels, SPACE), parts)


def test_unfair_or_not_is_judged_whichever_the_category() -> None:
    predictions = np.array([[1, 0], [0, 0], [0, 1], [0, 0], [1, 1]])
    references = np.array([[0, 1], [0, 0], [0, 0], [1, 0], [1, 0]])

    # unfair: 2 right, 3 said, 3 true; fair: 1 right, 2 said, 2 true
    assert bind("legal.unfair_f1")(predictions, references) == pytest.approx((2 / 3 + 1 / 2) / 2)


def test_it_is_scikit_learns_macro_f1_of_any() -> None:
    rng = np.random.default_rng(0)
    predictions, references = (rng.random((200, 4)) < 0.15 for _ in range(2))

    expected = f1_score(references.any(axis=1), predictions.any(axis=1), average="macro")
    assert bind("legal.unfair_f1")(predictions.astype(int), references.astype(int)) == pytest.approx(expected)
