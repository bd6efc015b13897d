import random
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from rdkit import Chem

from vertical_sdk import catalog
from vertical_sdk.catalog import augmentations, cleaners, readers, splitters
from vertical_sdk.checking import check_recipe
from vertical_sdk.data.clean import normalize_texts
from vertical_sdk.data.prepare import prepare
from vertical_sdk.errors import DataError, MissingExtra, RecipeError
from vertical_sdk.recipe import load_recipe
from vertical_sdk.types import Example, LabelSpace

BENZENE, CYCLOHEXANE = "c1ccccc1", "C1CCCCC1"
ASPIRIN = "CC(=O)Oc1ccccc1C(=O)O"
CAFFEINE = "Cn1c(=O)c2c(ncn2C)n(C)c1=O"
ALANINE = "C[C@H](N)C(=O)O"
MANY = [ASPIRIN, CAFFEINE, ALANINE, "F/C=C/Cl", "CC(C)NCC(O)COc1cccc2ccccc12.Cl", "c1cc[nH]c1", "[O-][N+](=O)c1ccccc1"]
BBBP = """num,name,p_np,smiles
1,Aspirin,1,OC(=O)c1ccccc1OC(C)=O
2,Ethanol,0,OCC
3,Broken,1,C1CC
4,Aspirin again,1,CC(=O)Oc1ccccc1C(=O)O
5,Caffeine,1,Cn1cnc2c1c(=O)n(C)c(=O)n2C
6,Caffeine otherwise,0,CN1C=NC2=C1C(=O)N(C(=O)N2C)C
7,Nothing,0,
8,Unlabelled,,CCC
"""


def file_of(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def same(one: str, other: str) -> bool:
    return bool(Chem.MolToSmiles(Chem.MolFromSmiles(one)) == Chem.MolToSmiles(Chem.MolFromSmiles(other)))


def test_molecules_are_read_canonically_and_every_lost_row_has_its_reason(tmp_path: Path) -> None:
    found = readers.get("medical.smiles")(file_of(tmp_path / "BBBP.csv", BBBP), {}, "classification")

    assert [(e.id, e.text, e.target, e.group) for e in found.examples] == [
        ("2", ASPIRIN, "1", BENZENE),
        ("3", "CCO", "0", "no ring"),
    ]
    assert found.account.rows_in == 8
    assert found.account.dropped == {
        "no SMILES that RDKit can read": 1,
        "no SMILES": 1,
        "no label": 1,
        "the same molecule again": 1,
        "the same molecule under another label": 2,
    }


def test_labels_get_the_names_and_the_order_of_the_recipe(tmp_path: Path) -> None:
    read = readers.get("medical.smiles")
    names = {"0": "stays out", "1": "crosses"}

    found = read(file_of(tmp_path / "BBBP.csv", BBBP), {}, "classification", names=names)
    assert [e.target for e in found.examples] == ["crosses", "stays out"]
    assert found.labels == ("stays out", "crosses")

    named = file_of(tmp_path / "named.csv", "smiles,label\nCCO,crosses\nCCC,1.0\nCC,2\n")
    with pytest.raises(DataError, match=r"named\.csv: row 4: the label '2' is not one of '0', '1'"):
        read(named, {}, "classification", names=names)


def test_measured_values_are_read_and_never_predicted_ones(tmp_path: Path) -> None:
    esol = (
        "Compound ID,ESOL predicted log solubility in mols per litre,measured log solubility in mols per litre,smiles\n"
        "a,-9,-0.77,CCO \nb,-9,-1.5,CCO\nc,-9,-1.5,OCC\n"
    )

    found = readers.get("medical.smiles")(file_of(tmp_path / "delaney.csv", esol), {}, "regression")

    assert [(e.text, e.target) for e in found.examples] == [("CCO", -0.77), ("CCO", -1.5)]
    assert found.account.dropped == {"the same molecule again": 1}


def test_columns_may_be_named(tmp_path: Path) -> None:
    file = file_of(tmp_path / "rows.csv", "drug,y,smiles\nCCO,3,c1ccccc1\n")

    found = readers.get("medical.smiles")(file, {"text": "drug", "label": "y"}, "regression")

    assert (found.examples[0].text, found.examples[0].target) == ("CCO", 3.0)


def test_rows_to_predict_are_all_kept_or_named(tmp_path: Path) -> None:
    read = readers.get("medical.smiles")

    kept = read(file_of(tmp_path / "ask.csv", "smiles\nOCC\nOCC\n"), {}, "classification", missing="keep")
    assert [(e.text, e.target) for e in kept.examples] == [("CCO", None), ("CCO", None)]

    with pytest.raises(DataError, match=r"bad\.csv: row 3: no SMILES that RDKit can read in 'aspirin'"):
        read(file_of(tmp_path / "bad.csv", "smiles\nOCC\naspirin\n"), {}, "classification", missing="keep")
    with pytest.raises(DataError, match=r"few\.csv:3: no label"):
        read(file_of(tmp_path / "few.csv", "smiles,label\nOCC,1\nC,\n"), {}, "classification", missing="refuse")
    with pytest.raises(DataError, match="none of its 1 rows can be used"):
        read(file_of(tmp_path / "none.csv", "smiles,label\nxyz,1\n"), {}, "classification")


@pytest.mark.parametrize(
    ("columns", "task", "names", "message"),
    [
        ({}, "generation", None, "not generation"),
        ({"group": "g"}, "classification", None, "a molecule's group is its scaffold"),
        ({}, "regression", {"0": "no"}, "names are for labels"),
    ],
)
def test_the_reader_says_what_it_cannot_do(
    columns: dict[str, str], task: str, names: dict[str, str] | None, message: str, tmp_path: Path
) -> None:
    with pytest.raises(RecipeError, match=message):
        readers.get("medical.smiles")(tmp_path / "rows.csv", columns, task, names=names)


def test_without_rdkit_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rdkit", None)

    with pytest.raises(MissingExtra, match=r"needs the extra 'chem': pip install .*\[chem\]"):
        readers.get("medical.smiles")(file_of(tmp_path / "BBBP.csv", BBBP), {}, "classification")


def molecules(groups: dict[str, int]) -> list[Example]:
    return [Example(f"{name}{n}", "C", "ab"[n % 2], group=name) for name, count in groups.items() for n in range(count)]


def test_large_scaffolds_are_learned_from_and_rare_ones_judge() -> None:
    rows = molecules({"big": 6, "middle": 4, "x": 2, "y": 2, "s": 1, "t": 1, "u": 1, "v": 1, "w": 1, "z": 1})

    placed, account = splitters.get("medical.scaffold")(rows, 0, test=0.2, validation=0.1)

    parts = {e.group: e.split for e in placed}
    assert Counter(e.split for e in placed) == {"train": 14, "validation": 2, "test": 4}
    assert [parts[name] for name in ("big", "middle", "x", "y")] == ["train"] * 4
    assert account.notes["scaffolds of one molecule"] == 6


def test_a_scaffold_that_does_not_fit_goes_on_and_smaller_ones_still_fill_training() -> None:
    rows = molecules({"a": 5, "b": 4, "c": 1})

    placed, _ = splitters.get("medical.scaffold")(rows, 0, test=0.4, validation=0.0)

    assert {e.group: e.split for e in placed} == {"a": "train", "b": "test", "c": "train"}


def test_the_split_depends_on_rows_and_seed_or_else_on_the_file() -> None:
    rows = molecules({f"{n:02d}": 1 for n in range(40)})
    rows = [Example(e.id, e.text, "ab"[n % 2], group=e.group) for n, e in enumerate(rows)]
    split = splitters.get("medical.scaffold")

    def tested(examples: list[Example], seed: int, ties: str) -> set[str | None]:
        return {e.group for e in split(examples, seed, ties=ties)[0] if e.split == "test"}

    assert tested(rows, 0, "seed") == tested(rows[::-1], 0, "seed")
    assert tested(rows, 0, "seed") != tested(rows, 1, "seed")
    assert tested(rows, 0, "file") == tested(rows, 1, "file") == {"00", "01", "02", "03"}


def test_a_split_that_cannot_be_made_says_why() -> None:
    split = splitters.get("medical.scaffold")

    with pytest.raises(DataError, match="row x has no scaffold"):
        split([Example("x", "C", "a")], 0)
    with pytest.raises(DataError, match="no row is in the train part"):
        split(molecules({"a": 2}), 0)
    with pytest.raises(RecipeError, match="must be shares"):
        split(molecules({"a": 2}), 0, test=1.0)


@pytest.mark.parametrize("text", MANY)
@pytest.mark.parametrize("kekule", [False, True])
def test_another_writing_is_the_same_molecule_written_in_the_same_manner(text: str, kekule: bool) -> None:
    (row,), _ = cleaners.get("medical.canonical_smiles")([Example("1", text, "x")], kekule=kekule)

    made = [augmentations.get("medical.random_smiles")(row, random.Random(seed)) for seed in range(20)]

    assert all(same(one.text, text) for one in made)
    assert all(one.target == "x" for one in made)
    assert not kekule or not any(set(one.text) & set("cno") for one in made)
    assert len({one.text for one in made}) > 1


def test_another_writing_depends_on_its_rng_alone() -> None:
    row, write = Example("1", ASPIRIN), augmentations.get("medical.random_smiles")

    assert write(row, random.Random(3)) == write(row, random.Random(3))
    assert write(row, random.Random(3), p=0.0) is row
    assert write(Example("1", "no molecule"), random.Random(3)).text == "no molecule"


def test_kekule_and_aromatic_forms_get_one_canonical_smiles() -> None:
    rows = [Example("1", BENZENE), Example("2", CYCLOHEXANE)]

    plain, _ = cleaners.get("medical.canonical_smiles")(rows)
    written, account = cleaners.get("medical.canonical_smiles")(rows, kekule=True)

    assert plain[0].text.lower() == plain[1].text.lower()
    assert [e.text for e in written] == ["C1=CC=CC=C1", CYCLOHEXANE]
    assert account.changed == {"written canonically": 1}


@pytest.mark.parametrize("kekule", [False, True])
def test_whatever_way_a_molecule_comes_in_it_is_written_one_way(kekule: bool) -> None:
    ways = ["Cc1ccccc1O", "Oc1ccccc1C", "CC1=CC=CC=C1O", "CC1=C(O)C=CC=C1"]

    rows, _ = cleaners.get("medical.canonical_smiles")([Example(str(n), way) for n, way in enumerate(ways)], kekule=kekule)

    assert len({e.text for e in rows}) == 1


@pytest.mark.parametrize("text", ["", " ", "C1CC", "aspirin", "I am no molecule", "C C"])
def test_an_invalid_molecule_is_dropped_from_training(text: str) -> None:
    for name in ("medical.canonical_smiles", "medical.fingerprints"):
        rows, account = cleaners.get(name)([Example("1", text, "x"), Example("2", "C", "x")])

        assert [e.id for e in rows] == ["2"]
        assert account.dropped == {"no SMILES that RDKit can read": 1}


def test_a_fingerprint_counts_fragments_and_ends_with_descriptors() -> None:
    from vertical_sdk.domains.medical.molecules import DESCRIPTORS

    (ethane, ethanol, rewritten), _ = cleaners.get("medical.fingerprints")(
        [Example("1", "CC", "x"), Example("2", "CCO", "x"), Example("3", "OCC", "x")], size=64
    )

    assert ethane.values is not None
    assert ethanol.values is not None
    assert ethane.values.shape == (64 + len(DESCRIPTORS),)
    assert ethane.values.dtype == np.float32
    assert ethane.values[:64].sum() == 3  # each carbon at radius 0, and the whole once at radius 1
    assert (ethanol.values == rewritten.values).all()
    told = dict(zip(DESCRIPTORS, ethanol.values[64:].tolist(), strict=True))
    assert told["ExactMolWt"] == pytest.approx(46.0419, abs=1e-3)  # 2 C, 6 H, 1 O
    assert told["TPSA"] == pytest.approx(20.23)  # one hydroxyl (Ertl et al., 2000)
    assert (told["NumHBD"], told["HeavyAtoms"], told["NumRings"], told["FormalCharge"]) == (1, 3, 0, 0)
    (bits,), _ = cleaners.get("medical.fingerprints")([Example("1", "CC", "x")], size=64, counts=False)
    assert bits.values is not None
    assert set(bits.values[:64].tolist()) == {0.0, 1.0}


TAILS = ["", "C", "CC", "CCC", "O", "CO", "N", "CN", "F", "FC", "Cl", "ClC", "OC(=O)", "N#C", "OC", "CCO"]
RINGS = ["c1ccccc1", "C1CCCCC1", "c1ccncc1", "C1CCNCC1", "c1ccsc1", "C1CCOC1", "C1CCC1", "c1ccoc1", "C1CC1", "C1CCCC1"]


def bbbp(path: Path) -> Path:
    """Aromatic ones cross, others do not."""
    rows = [f"{n},x,{int(ring[0] == 'c')},{tail}{ring}" for n, ring in enumerate(RINGS) for tail in TAILS[: 16 - n]]
    return file_of(path, "num,name,p_np,smiles\n" + "\n".join(rows) + "\n")


def test_the_recipe_for_the_blood_brain_barrier_gives_its_member_fingerprints(tmp_path: Path) -> None:
    recipe = load_recipe("medical/molecule-bbb", {"data.source": str(bbbp(tmp_path / "BBBP.csv"))})
    check_recipe(recipe)

    prepared = prepare(recipe)

    assert prepared.labels is not None
    assert prepared.labels.labels == ("stays out", "crosses")
    assert not {e.group for e in prepared.originals} & {e.group for e in (*prepared.validation, *prepared.test)}
    assert all(e.values is not None and e.values.shape == (1041,) for e in prepared.train)
    assert len(prepared.train) > 2 * len(prepared.originals)
    trees = catalog.baselines.get("boosted_trees")(
        prepared.originals, prepared.labels, "classification", 0, None, n_estimators=5
    )
    assert trees.predict(prepared.test, None).probabilities.shape == (len(prepared.test), 2)


def test_inputs_are_written_and_described_as_training_rows() -> None:
    recipe = load_recipe("medical/molecule-bbb")

    (asked,), account = normalize_texts([Example("0", " OC(=O)c1ccccc1OC(C)=O ")], recipe)
    (trained,), _ = normalize_texts([Example("0", ASPIRIN)], recipe)

    assert asked.text == trained.text == "CC(=O)OC1=CC=CC=C1C(=O)O"
    assert asked.values is not None
    assert trained.values is not None
    assert (asked.values == trained.values).all()
    assert account.changed == {"written canonically": 1}


def test_an_invalid_molecule_is_refused_by_the_member() -> None:
    recipe = load_recipe("medical/molecule-bbb")
    rows, _ = normalize_texts(
        [Example(str(n), tail + ring, "x" if n % 2 else "y") for n, ring in enumerate(RINGS) for tail in TAILS], recipe
    )
    trees = catalog.baselines.get("boosted_trees")(rows, LabelSpace(("x", "y")), "classification", 0, None, n_estimators=2)
    asked, _ = normalize_texts([Example("q", "aspirin")], recipe)

    with pytest.raises(DataError, match=r"Row q \('aspirin'\) has no \(n,\) values, but boosted_trees needs 1041"):
        trees.predict(asked, None)


def test_the_recipe_for_solubility_prepares_numbers(tmp_path: Path) -> None:
    rows = [f"{tail}{ring},{-len(tail) - n / 10}" for n, ring in enumerate(RINGS) for tail in TAILS[: 16 - n]]
    file = file_of(tmp_path / "esol.csv", "smiles,measured log solubility in mols per litre\n" + "\n".join(rows) + "\n")
    recipe = load_recipe("medical/molecule-solubility", {"data.source": str(file)})
    check_recipe(recipe)

    prepared = prepare(recipe)

    assert prepared.labels is None
    assert all(isinstance(e.target, float) for e in prepared.test)
    assert len(prepared.validation) >= 5
