import random
import time
import zlib

import pytest
from datasketch import MinHash

from vertical_sdk.data import dedup
from vertical_sdk.data.dedup import bands, decontaminate, jaccard, near_repeats, nearest_in, shingles
from vertical_sdk.types import Example, Message

WORDS = tuple("acute chronic fracture of the left right femur tibia initial subsequent open closed with without".split())  # noqa: SIM905


def sentences(count: int, seed: int) -> list[str]:
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=8)) for _ in range(count)]


def test_shingles_are_of_four_characters_and_know_no_case() -> None:
    assert shingles("AB  cd e") == {"ab c", "b cd", " cd ", "cd e"}
    assert shingles("Flu") == {"flu"}
    assert shingles(" ") == frozenset()


def test_runs_of_han_kana_and_hangul_are_cut_into_pairs() -> None:
    assert shingles("张伟订单，12345 OK。好") == {"张伟", "伟订", "订单", "1234", "2345", "345 ", "45 o", "5 ok", "好"}
    assert shingles("手机１３８００１３８０００。") == {"手机", "13800138000"}
    assert shingles("テストです") == {"テス", "スト", "トで", "です"}
    assert shingles("좋은 영화") == {"좋은", "영화"}
    assert shingles("。！") == {"。！"}
    assert shingles("naïve café") == {"naïv", "aïve", "ïve ", "ve c", "e ca", " caf", "café"}


TEMPLATE = (
    "尊敬的{name}先生，您好！您于本月提交的信用卡挂失申请已经受理，受理编号为{number}，工作人员将在三个工作日内与您联系，"
    "核实身份后为您办理补卡手续，新卡将寄往您预留的通讯地址，请注意查收。如有疑问，请随时致电客服热线，感谢您的支持与理解。"
)
SAME_IN_ENGLISH = (
    "Dear Mr {name}, your request of this month to block your credit card has been accepted under the number {number}. A member of "
    "our staff will call you within three working days and, once your identity is confirmed, will issue a new card, which we send to "
    "the postal address that you left with us. If anything is unclear, please call our hotline at any time. Thank you for your patience."
)


@pytest.mark.parametrize(
    ("template", "names"), [(TEMPLATE, ("张伟", "欧阳明")), (SAME_IN_ENGLISH, ("Lee", "Brown"))], ids=["Chinese", "English"]
)
def test_a_template_with_another_name_and_number_is_a_near_repeat(template: str, names: tuple[str, str]) -> None:
    first, second = (
        template.format(name=name, number=number) for name, number in zip(names, ("20230715", "48120"), strict=True)
    )

    assert near_repeats([first, second], 0.9) == {1: 0}
    kept, account = decontaminate([Example("1", second)], [Example("t", first)], 0.9)
    assert kept == []
    assert account.dropped == {"nearly repeats an evaluation row": 1}


def test_chinese_texts_on_the_same_subject_are_not_near_repeats() -> None:
    reviews = [
        "房间很干净，服务员态度也很好，早餐种类丰富，下次还会来住。",
        "房间很小，服务员态度很差，早餐种类太少，下次不会再来住了。",
        "酒店位置很好，离地铁站很近，前台服务热情，早餐一般。",
        "送餐速度很快，味道不错，就是分量有点少，希望改进。",
        "送餐太慢了，等了一个半小时，味道也一般，不会再点了。",
    ]

    assert near_repeats(reviews, 0.7) == {}


def test_jaccard_is_intersection_over_union() -> None:
    assert jaccard(frozenset("abc"), frozenset("bcd")) == pytest.approx(2 / 4)
    assert jaccard(frozenset(), frozenset()) == 1.0


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 1.0])
def test_bands_miss_a_pair_at_the_threshold_once_in_a_hundred(threshold: float) -> None:
    count, rows = bands(threshold)

    assert count * rows <= 64
    assert (1 - threshold**rows) ** count <= 0.01


def test_candidates_are_those_that_comparing_all_pairs_finds() -> None:
    texts, others = sentences(150, 1), sentences(150, 2)
    texts += [other.replace("fracture", "fractures", 1) for other in others[:40]]
    sets = [shingles(t) for t in others]
    wanted = {i for i, t in enumerate(texts) if any(jaccard(shingles(t), s) >= 0.8 for s in sets)}

    found = nearest_in(texts, others, 0.8)

    assert set(found) <= wanted
    assert len(found) >= 0.95 * len(wanted)
    assert len(wanted) > 20


def test_minimal_hash_values_are_those_of_datasketch() -> None:
    texts = ["", *sentences(60, 4), "张伟订单，12345 OK。好", "x", "a text of lone surrogates \ud800 " * 40]

    sketches = [sketch for _, sketch in dedup._sketch_texts(texts)]

    wanted = MinHash.generator(map(shingles, texts), num_perm=64, seed=1, hashfunc=hash_piece)
    assert [sketch.tolist() for sketch in sketches] == [minhash.hashvalues.tolist() for minhash in wanted]


def hash_piece(piece: str) -> int:
    return zlib.crc32(piece.encode("utf-8", "surrogatepass"))


def test_groups_of_texts_give_the_sketches_of_each_text_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["", *sentences(20, 5), ""]
    whole = [sketch.tolist() for _, sketch in dedup._sketch_texts(texts)]

    monkeypatch.setattr(dedup, "CHUNK", 1)

    assert [sketch.tolist() for _, sketch in dedup._sketch_texts(texts)] == whole


def test_a_near_repeat_names_the_earlier_row_that_is_kept() -> None:
    base = "fracture of the left femur, initial encounter for closed fracture"

    assert near_repeats([base, "something else", base + " ", base + "s"], 0.9) == {2: 0, 3: 0}
    assert near_repeats([base, base], 0.9, kinds=["x", "y"]) == {}


def test_at_threshold_one_only_the_same_text_counts() -> None:
    assert nearest_in(["a cat sat", "a cat sat."], ["A  cat sat"], 1.0) == {0: 0}


def test_training_rows_that_repeat_an_evaluation_row_are_dropped() -> None:
    text = "acute bronchitis due to respiratory syncytial virus in a child of three"
    train = [Example("1", text.upper()), Example("2", text + "s"), Example("3", "gout")]

    kept, account = decontaminate(train, [Example("t", text)], 0.9)

    assert [e.id for e in kept] == ["3"]
    assert account.dropped == {"repeats an evaluation row": 1, "nearly repeats an evaluation row": 1}


def test_conversations_are_compared_by_what_is_asked() -> None:
    train = [Example("1", messages=(Message("user", "why is the sky blue?"), Message("assistant", "scattering")))]
    test = [Example("t", messages=(Message("user", "Why is the sky blue?"), Message("assistant", "another answer")))]

    kept, _ = decontaminate(train, test, 0.9)

    assert kept == []


def test_without_evaluation_rows_nothing_is_dropped() -> None:
    train = [Example("1", "a"), Example("2", "")]

    assert decontaminate(train, [], 0.9)[0] == train


def test_ten_thousand_short_texts_take_seconds() -> None:
    texts = sentences(10_000, 3)
    began = time.perf_counter()

    nearest_in(texts[:8000], texts[8000:], 0.9)

    assert time.perf_counter() - began < 10
