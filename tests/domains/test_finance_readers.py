import json
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from vertical_sdk.catalog import cleaners, readers, splitters
from vertical_sdk.data.read import Table
from vertical_sdk.domain import load_domain
from vertical_sdk.errors import DataError, RecipeError
from vertical_sdk.types import Example

GERMAN = """risk,sex,job,housing,saving_accounts,checking_account,credit_amount,duration,purpose,age
1,male,2,own,not_known,little,1200,6,radio/TV,67
0,female,0,rent,quite rich,moderate,5951,48,car,22
"""
MONTHS = ("0", "2", "3", "4", "5", "6")
TAIWAN = ",".join(
    (
        "ID,LIMIT_BAL,SEX,EDUCATION,MARRIAGE,AGE",
        *(f"PAY_{m}" for m in MONTHS),
        *(f"BILL_AMT{m}" for m in range(1, 7)),
        *(f"PAY_AMT{m}" for m in range(1, 7)),
        "default.payment.next.month",
    )
)
CLIENTS = f"""{TAIWAN}
7,20000.0,2,2,1,24.0,2,-1,1,0,-2,-2,5000,4000,0,0,0,0,1000,0,0,0,0,0,1
9,0,1,0,3,,0,0,0,0,0,0,-10,0,0,0,0,0,0,0,0,0,0,0,0
"""


def read(name: str, path: Path, task: str = "classification", missing: str = "drop", **options: object) -> Table:
    table: Table = readers.get(f"finance.{name}")(path, {}, task, missing, **options)
    return table


def written(tmp_path: Path, text: str, name: str = "rows.csv") -> Path:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def ratios(label: str = "0", **changed: str) -> str:
    cells = [changed.get(f"x{n}", f"{n / 8}") for n in range(1, 65)]
    return ",".join([*cells, label])


def test_the_vertical_says_who_it_is() -> None:
    assert load_domain("finance").name == "finance"


def test_numbers_of_the_source_become_sentiments_in_their_order(tmp_path: Path) -> None:
    path = written(tmp_path, "text,label\nA falls,0\nA rises,1\nA meets,2\nB falls,Bearish\n")

    table = read("news", path, "ordinal")

    assert [e.target for e in table.examples] == ["bearish", "bullish", "neutral", "bearish"]
    assert table.labels == ("bearish", "neutral", "bullish")


def test_a_sentiment_that_is_none_is_refused_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"rows\.csv:3: the label '7' is not one of bearish"):
        read("news", written(tmp_path, "text,label\nA,0\nB,7\n"), "ordinal")


def test_news_to_predict_need_no_label(tmp_path: Path) -> None:
    table = read("news", written(tmp_path, "text\nA falls\n"), "ordinal", "keep")

    assert [(e.text, e.target) for e in table.examples] == [("A falls", None)]


def test_german_applicants_are_described_in_words(tmp_path: Path) -> None:
    first, second = read("credit", written(tmp_path, GERMAN)).examples

    assert (first.target, second.target) == ("good", "bad")
    assert first.text == (
        "age: 67; sex: male; job: skilled; housing: own; savings: unknown; checking account: little; amount: 1200; months: 6; "
        "monthly instalment: 200; purpose: radio/TV"
    )
    assert dict(second.record)["savings"] == "quite rich"
    assert dict(second.record)["job"] == "unskilled, not resident"


def test_card_clients_have_the_same_age_and_sex_and_honest_sums(tmp_path: Path) -> None:
    first, second = read("credit", written(tmp_path, CLIENTS)).examples

    facts = dict(first.record)
    assert (first.id, first.target, second.target) == ("7", "bad", "good")
    assert (facts["age"], facts["sex"], facts["education"], facts["marriage"]) == (24, "female", "university", "married")
    assert (facts["worst delay"], facts["months late"]) == (2, 2)
    assert (facts["share of limit used"], facts["share of bill paid"]) == (0.25, 0.25)
    assert facts["delay 1 before"] == -1
    unknown = dict(second.record)
    assert (unknown["age"], unknown["education"], unknown["share of limit used"]) == (None, None, None)
    assert "age: unknown" in second.text


def test_the_header_may_be_written_as_uci_writes_it(tmp_path: Path) -> None:
    text = CLIENTS.replace("default.payment.next.month", "default payment next month")

    assert [e.target for e in read("credit", written(tmp_path, text)).examples] == ["bad", "good"]


def test_applicants_to_predict_need_no_label(tmp_path: Path) -> None:
    text = "\n".join(line.partition(",")[2] for line in GERMAN.splitlines())

    table = read("credit", written(tmp_path, text), missing="keep")

    assert [e.target for e in table.examples] == [None, None]
    assert [dict(e.record)["age"] for e in table.examples] == [67, 22]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,income\nAnn,3\n", "its columns are name, income"),
        (GERMAN.replace(",67", ",old"), r"rows\.csv:2: column 'age' contains 'old', which is not a number"),
        (GERMAN.replace("0,female", "3,female"), r"rows\.csv:3: column 'risk' holds '3'; 0 or 1"),
        (CLIENTS.replace("20000.0,2", "20000.0,5"), r"rows\.csv:2: column 'sex' holds '5'; one of 1 \(male\)"),
        (CLIENTS.replace("\n9,", "\n7,"), "the ID '7' appears twice"),
        (GERMAN.replace("risk,", "r,"), "has no column 'risk'"),
    ],
)
def test_broken_applications_are_refused_with_their_place(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read("credit", written(tmp_path, text))


def test_a_reader_that_knows_its_columns_takes_none(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"Leave data\.columns out"):
        readers.get("finance.credit")(written(tmp_path, GERMAN), {"text": "purpose"}, "classification")
    with pytest.raises(RecipeError, match="not regression"):
        read("credit", written(tmp_path, GERMAN), "regression")


def test_a_row_without_a_label_is_dropped_and_counted_or_refused(tmp_path: Path) -> None:
    path = written(tmp_path, GERMAN.replace("\n0,female", "\n,female"))

    account = read("credit", path).account
    assert account is not None
    assert account.dropped == {"no label": 1}
    with pytest.raises(DataError, match=r"rows\.csv:3: no label"):
        read("credit", path, missing="refuse")


def test_ratios_are_taken_by_position_whatever_the_header_calls_them(tmp_path: Path) -> None:
    header = ",".join(["'(gross"] * 64 + ["bankruptcy"])
    path = written(tmp_path, f"{header}\n{ratios('0', x3='')}\n{ratios('1', x29='6.1267')}\n")

    first, second = read("polish", path).examples

    assert (first.target, second.target) == ("sound", "bankrupt")
    assert len(first.record) == 64
    assert first.record[0] == ("X1 net profit / total assets", 0.125)
    assert dict(first.record)["X3 working capital / total assets"] is None
    assert dict(second.record)["X64 sales / fixed assets"] == 8
    assert second.text.count("; ") == 15
    assert "X29 logarithm of total assets: 6.13" in second.text
    assert "X64" not in second.text


def test_the_text_tells_as_many_ratios_as_asked_the_classical_ones_first(tmp_path: Path) -> None:
    path = written(tmp_path, f"{','.join(['a'] * 65)}\n{ratios()}\n")

    five = read("polish", path, most=5).examples[0]
    every = read("polish", path, most=None).examples[0]

    assert [field.partition(" ")[0] for field in five.text.split("; ")] == ["X3", "X6", "X7", "X8", "X9"]
    assert every.text.count("; ") == 63


ARFF = "@relation polish\n" + "".join(f"@attribute Attr{n} numeric\n" for n in range(1, 65)) + "@attribute class {0,1}\n@data\n"


def test_the_zip_of_arff_files_is_read_as_it_is_published(tmp_path: Path) -> None:
    archive = tmp_path / "polish.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("1year.arff", ARFF + ratios("0") + "\n")
        file.writestr("5year.arff", ARFF + ratios("1", x2="?") + "\n")

    (company,) = read("polish", archive).examples

    assert company.target == "bankrupt"
    assert dict(company.record)["X2 total liabilities / total assets"] is None
    with pytest.raises(DataError, match=r"has no '6year\.arff'; it has 1year\.arff, 5year\.arff"):
        read("polish", archive, member="6year.arff")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("1,2,3", r"rows\.csv:2: 3 fields; 64 ratios are needed"),
        (ratios("maybe"), r"rows\.csv:2: the last column holds 'maybe'"),
        (ratios("0", x5="many"), r"rows\.csv:2: column 'X5 days .*' contains 'many', which is not a number"),
    ],
)
def test_broken_ratios_are_refused_with_their_place(tmp_path: Path, row: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read("polish", written(tmp_path, f"{','.join(['a'] * 65)}\n{row}\n"))


POSTS = """ticker,date,text,tweets,return
aapl,2014-01-02,"$ aapl up URL | so good",2,-0.014
C,2014-01-02,bank,1,0.5
C,2014-01-03,,0,0.1
"""


def test_posts_become_a_text_with_the_ticker_and_a_record_for_the_back_test(tmp_path: Path) -> None:
    table = read("stock_tweets", written(tmp_path, POSTS), "regression")

    first = table.examples[0]
    assert first.text == "AAPL: $ aapl up URL | so good"
    assert (first.target, first.time, first.group) == (-0.014, "2014-01-02", "2014-01-02")
    assert first.record == (("ticker", "AAPL"), ("date", "2014-01-02"), ("return", -0.014))
    assert table.account is not None
    assert table.account.dropped == {"no text": 1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (POSTS.replace("2014-01-03", "tomorrow"), r"rows\.csv:4: the date 'tomorrow' is invalid"),
        (POSTS.replace("0.5", "up"), r"rows\.csv:3: column 'return' contains 'up'"),
        (POSTS.replace("return", "x"), "has no column return"),
        (POSTS.replace("C,2014-01-03", "C,2014-01-02"), r"rows\.csv:4: C appears twice on 2014-01-02"),
    ],
)
def test_broken_posts_are_refused_with_their_place(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read("stock_tweets", written(tmp_path, text), "regression")


def repository(folder: Path) -> Path:
    """Two tickers; of BB nothing was posted near its only price."""
    root = folder / "stocknet-dataset-master"
    posts = {
        "AA/2014-01-01": ["old"],
        "AA/2014-01-05": ["a b", "a b", "c"],
        "AA/2014-01-06": ["same day"],
        "BB/2014-01-01": ["x"],
    }
    for name, texts in posts.items():
        path = root / "tweet" / "preprocessed" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps({"text": text.split()}) + "\n" for text in texts))
    prices = root / "price" / "preprocessed"
    prices.mkdir(parents=True)
    (prices / "AA.txt").write_text("2014-01-07\t-0.01\t1\n2014-01-06\t0.02\t1\n2013-12-31\t0.5\t1\n")
    (prices / "BB.txt").write_text("2014-02-01\t0.1\t1\n")
    return root


def test_the_repository_is_read_as_it_is_published(tmp_path: Path) -> None:
    root = repository(tmp_path)
    archive = tmp_path / "master.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(root.rglob("*")):
            file.write(path, path.relative_to(tmp_path).as_posix())

    from_folder = read("stock_tweets", tmp_path, "regression").examples
    from_zip = read("stock_tweets", archive, "regression", posts=2).examples

    assert [(e.id, e.text, e.target) for e in from_folder] == [
        ("AA:2014-01-06", "AA: a b | c | old", 0.02),
        ("AA:2014-01-07", "AA: same day | a b | c", -0.01),
    ]
    assert [e.text for e in from_zip] == ["AA: a b | c", "AA: same day | a b"]


def test_another_repository_is_refused(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("nothing")

    with pytest.raises(DataError, match="not StockNet's repository"):
        read("stock_tweets", tmp_path, "regression")


def cleaned(texts: Sequence[str], **options: object) -> tuple[list[str], object]:
    rows = [Example(str(n), text, "neutral") for n, text in enumerate(texts)]
    kept, account = cleaners.get("finance.urls")(rows, **options)
    return [e.text for e in kept], account


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Up 5% https://t.co/AbC1 today", "Up 5% today"),
        ("t.co/x Down", "Down"),
        ("$ aapl and $ brk-b rise URL", "$AAPL and $BRK-B rise"),
        ("$ 5 a share, curl and $URL stay", "$ 5 a share, curl and $URL stay"),
        ("line one\nline two", "line one\nline two"),
    ],
)
def test_links_go_and_torn_tickers_are_joined(text: str, expected: str) -> None:
    assert cleaned([text])[0] == [expected]


def test_changes_by_cleaning_are_counted() -> None:
    texts, account = cleaned(["https://t.co/a", "A https://t.co/a", "$ c up", "plain"])

    assert texts == ["A", "$C up", "plain"]
    assert account.dropped == {"nothing but links": 1}  # type: ignore[attr-defined]
    assert account.changed == {"links removed": 1, "tickers joined": 1}  # type: ignore[attr-defined]
    assert cleaned(["A https://t.co/a"], links="mask")[0] == ["A [LINK]"]


def of_days(*days: str) -> list[Example]:
    return [Example(f"{n}", "x", 0.1, time=day, group=day) for n, day in enumerate(days)]


def test_an_embargo_separates_the_parts() -> None:
    rows = of_days(*(f"2024-01-{day:02d}" for day in range(1, 32)))

    placed, account = splitters.get("finance.embargoed")(rows, 0, days=5, test=0.2, validation=0.2)

    by_part = {part: [e.time for e in placed if e.split == part] for part in ("train", "validation", "test")}
    assert by_part["test"][0] == "2024-01-26"
    assert by_part["validation"] == ["2024-01-20"]
    assert by_part["train"][-1] == "2024-01-14"
    assert account.set_aside == {"embargo: within 5 days before the next part": 10}
    assert account.rows_out == 31 - 10


def test_without_days_nothing_is_set_aside_and_one_day_stays_together() -> None:
    rows = of_days(*["2024-01-01"] * 3, *["2024-01-02"] * 3, *["2024-01-03"] * 4)

    placed, account = splitters.get("finance.embargoed")(rows, 0, days=0, test=0.3, validation=0.3)

    assert account.set_aside == {}
    assert {(e.time, e.split) for e in placed} == {
        ("2024-01-01", "train"),
        ("2024-01-02", "validation"),
        ("2024-01-03", "test"),
    }


@pytest.mark.parametrize(
    ("rows", "options", "error", "message"),
    [
        (of_days("2024-01-01", "2024-01-02", "2024-01-03"), {}, DataError, "no row is left in the train part"),
        (of_days("2024-01-01", "2024-01-01"), {}, DataError, "1 different days, too few"),
        (of_days("soon", "2024-01-01"), {}, DataError, "row 0: the time 'soon' is not a date"),
        (of_days("2024-01-01"), {"test": 1.0}, RecipeError, "must be shares that leave something"),
    ],
)
def test_rows_that_cannot_be_divided_are_refused(
    rows: list[Example], options: dict[str, float], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        splitters.get("finance.embargoed")(rows, 0, **options)
