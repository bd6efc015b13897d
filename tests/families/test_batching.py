from __future__ import annotations

import random

from vertical_sdk.families.batching import Encoded, micro_batches, pad


def test_every_row_is_in_one_group_and_no_group_is_over_the_budget() -> None:
    rng = random.Random(0)
    lengths = [rng.randint(1, 40) for _ in range(300)]

    groups = list(micro_batches(lengths, 100))

    assert sorted(position for group in groups for position in group) == list(range(300))
    assert all(len(group) * max(lengths[p] for p in group) <= 100 for group in groups)


def test_a_row_longer_than_the_budget_is_a_group_of_its_own() -> None:
    assert list(micro_batches([5, 500], 100)) == [[0], [1]]


def test_padding_is_on_the_right_and_masked() -> None:
    ids, mask = pad([[7], [8, 9]], 0)

    assert ids.tolist() == [[7, 0], [8, 9]]
    assert mask.tolist() == [[1, 0], [1, 1]]


def test_an_answers_first_token_counts_only_with_one_before_it() -> None:
    assert Encoded(ids=(1, 2, 3), learn=(True, True, False)).units == 1
    assert Encoded(ids=(1, 2)).units == 0
    assert Encoded(ids=(1, 2), target=0).units == 1
