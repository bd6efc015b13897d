"""Molecules as SMILES: reader, scaffold split, one way to write them, fingerprints, and other ways to write them. RDKit does the chemistry.

SMILES is a line of letters for the graph of a molecule (Weininger, 1988). One molecule has many; RDKit's canonical one represents it.
Letter case matters in it (c is an aromatic carbon, C another), so what compares or reads texts in small letters must not be trusted
with it: see `canonical_smiles`.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from vertical_sdk.catalog import Share, augmentations, cleaners, readers, splitters
from vertical_sdk.data.account import StepAccount, Tally
from vertical_sdk.data.augment import change_text
from vertical_sdk.data.labels import set_aside_unlearned
from vertical_sdk.data.read import Missing, Table, read_table
from vertical_sdk.data.texts import stable_hash
from vertical_sdk.errors import DataError, MissingExtra, RecipeError
from vertical_sdk.tasks import get_task
from vertical_sdk.types import Example, Split, Target, TaskName

__all__ = ["ACYCLIC", "DESCRIPTORS", "canonical_smiles", "fingerprints", "random_smiles", "scaffold", "smiles"]

ACYCLIC = "no ring"
"""The group of all molecules without a ring, which have no scaffold; in MoleculeNet they are one group as well."""
UNREADABLE = "no SMILES that RDKit can read"
USUAL = {
    "text": ("smiles", "canonical_smiles", "mol"),
    "label": ("label", "p_np", "log_solubility", "measured log solubility in mols per litre"),
}
"""What the columns of BBBP and ESOL are called in MoleculeNet and in copies of it; letter case does not count."""
DESCRIPTORS = (
    "ExactMolWt",
    "CrippenLogP",
    "CrippenMR",
    "TPSA",
    "LabuteASA",
    "NumHBD",
    "NumHBA",
    "NumRotatableBonds",
    "NumRings",
    "NumAromaticRings",
    "NumAliphaticRings",
    "NumHeteroatoms",
    "FractionCSP3",
    "HeavyAtoms",
    "AromaticShare",
    "FormalCharge",
    "BertzCT",
)
"""Features that `fingerprints` appends, in order: size, oiliness (Wildman and Crippen, 1999), polar surface (Ertl et al.,
2000), hydrogen bonds, shape and charge."""


@readers.register("medical.smiles", tasks=("classification", "ordinal", "regression"), extra="chem")
def smiles(
    path: Path,
    columns: Mapping[str, str],
    task: TaskName,
    missing: Missing = "drop",
    *,
    names: dict[str, str] | None = None,
) -> Table:
    """Molecules with a label or a number: text is the canonical SMILES, group the Bemis-Murcko scaffold (Bemis and Murcko, 1996).

    path     a file in the layout of MoleculeNet's BBBP or ESOL (Wu et al., 2018): a column smiles, and p_np or measured log solubility
             in mols per litre; or with the columns that `columns` names as text and label
    missing  what becomes of a row without SMILES or label
    names    label in the file → what it is called here, in the order of the labels; as they are in the file where None

    Rows whose SMILES RDKit cannot read are dropped and counted. So are, for labels, all rows of a molecule with several labels, as it is
    unknown which is right; and repeats of a molecule with the same label or number. Where rows are to be predicted,
    no row may be left out: a SMILES that cannot be read is then an error. Raises DataError with file and row; MissingExtra without RDKit.
    """
    readers.require("medical.smiles", task, "data.reader")
    if wrong := sorted({"group", "messages"} & set(columns)):
        raise RecipeError(f"medical.smiles: data.columns.{wrong[0]}: a molecule's group is its scaffold; leave it out.")
    if names and get_task(task).numeric:
        raise RecipeError("medical.smiles: names are for labels; leave them out for regression.")
    chem = _import_rdkit()
    rows = read_table(path, lambda there: {**_find_columns(there), **columns}, task, missing=missing)
    tally = Tally("read")
    tally.notes = dict(rows.account.notes) if rows.account else {}
    for reason, ids in rows.account.rows.items() if rows.account else ():
        for row in ids:
            tally.drop(row, "no SMILES" if reason == "no text" else reason)
    examples: list[Example] = []
    for example in rows.examples:
        target = _name_target(example.target, names, path, example.id)
        molecule = _parse_molecule(example.text)
        lacks = "no SMILES" if not example.text.strip() else UNREADABLE if molecule is None else None
        if lacks is None:
            text = chem.MolToSmiles(molecule)
            examples.append(replace(example, text=text, target=target, group=_find_scaffold(molecule)))
        elif missing == "drop":
            tally.drop(example.id, lacks)
        else:
            quoted = f" in {example.text.strip()[:60]!r}" if lacks == UNREADABLE else ""
            raise DataError(f"{path}: row {example.id}: {lacks}{quoted}. Here every row needs one.")
    if missing == "drop":
        examples = list(_drop_repeats(examples, task, tally))
    account = tally.close(rows.account.rows_in if rows.account else len(rows.examples), len(examples))
    if not examples:
        raise DataError(f"{path}: none of its {len(rows.examples)} rows can be used: {dict(account.dropped)}.")
    labels = tuple(names.values()) if names else None
    summary = f"{rows.detected}; {len(examples)} molecules, {len({e.group for e in examples})} scaffolds"
    return Table(tuple(examples), summary, labels=labels, account=account)


def _find_columns(there: Sequence[str]) -> dict[str, str]:
    """Text and label, by the names that such files have for them."""
    columns = {column.casefold(): column for column in there}
    named = {key: next((columns[name] for name in names if name in columns), "") for key, names in USUAL.items()}
    return {key: name for key, name in named.items() if name}


def _name_target(target: Target, names: Mapping[str, str] | None, path: Path, row: str) -> Target:
    """The label by the name that the recipe gives it; a row to predict may have that name already."""
    if not names or not isinstance(target, str):
        return target
    name = names.get(target.removesuffix(".0"), target)
    if name not in names.values():
        raise DataError(f"{path}: row {row}: the label {target!r} is not one of {', '.join(map(repr, names))}.")
    return name


def _drop_repeats(rows: Sequence[Example], task: TaskName, tally: Tally) -> Iterator[Example]:
    """Each molecule with one label; or with each of its numbers once."""
    answers: dict[str, set[Target]] = defaultdict(set)
    for row in rows:
        answers[row.text].add(row.target)
    seen: set[tuple[str, Target]] = set()
    for row in rows:
        if not get_task(task).numeric and len(answers[row.text]) > 1:
            tally.drop(row.id, "the same molecule under another label")
        elif (row.text, row.target) in seen:
            tally.drop(row.id, "the same molecule again")
        else:
            seen.add((row.text, row.target))
            yield row


@splitters.register("medical.scaffold", extra="chem")
def scaffold(
    examples: Sequence[Example],
    seed: int,
    *,
    test: float = 0.1,
    validation: float = 0.1,
    ties: Literal["seed", "file"] = "seed",
) -> tuple[list[Example], StepAccount]:
    """The scaffold split: common scaffolds are for training, rare ones for the test, and no scaffold is in two parts (Wu et al., 2018).

    ties  among scaffolds of equal size, of which most have one molecule: shuffled by "seed"; or by their place in the "file", the
          last ones to training, which is how MoleculeNet's published splits come about. If a file is sorted by its labels, that
          gives a test part with another share of labels than the rest

    Scaffolds go, the largest first, to training as long as they fit into its share, else to validation as long as they fit, else to
    the test part. Raises DataError for rows without a group, or where a part stays empty.
    """
    if not (0 < test < 1 and 0 <= validation < 1 and test + validation < 1):
        raise RecipeError(
            f"data.split: test = {test} and validation = {validation} must be shares that leave something to train on."
        )
    groups: dict[str, list[int]] = defaultdict(list)
    for place, example in enumerate(examples):
        if example.group is None:
            raise DataError(f"split: medical.scaffold: row {example.id} has no scaffold; read rows with medical.smiles.")
        groups[example.group].append(place)

    def order(name: str) -> tuple[int, int, str]:
        places = groups[name]
        return -len(places), -places[0] if ties == "file" else stable_hash(seed, name), name

    parts: dict[str, Split] = {}
    filled: Counter[str] = Counter()
    for name in sorted(groups, key=order):
        size = len(groups[name])
        if filled["train"] + size <= (1 - test - validation) * len(examples):
            part: Split = "train"
        elif filled["train"] + filled["validation"] + size <= (1 - test) * len(examples):
            part = "validation"
        else:
            part = "test"
        parts[name] = part
        filled[part] += size
    tally = Tally("split: medical.scaffold")
    placed = set_aside_unlearned([replace(e, split=parts[e.group or ""]) for e in examples], tally)
    counts = Counter(e.split for e in placed)
    for needed in ("train", "test", *(["validation"] if validation else [])):
        if not counts[needed]:  # type: ignore[index]
            raise DataError(
                f"split: medical.scaffold: no row is in the {needed} part; {len(examples)} rows of {len(groups)} scaffolds gave "
                f"{dict(counts)}. More scaffolds are needed, or other shares."
            )
    tally.notes = {
        **{str(part): count for part, count in sorted(counts.items(), key=str)},
        "scaffolds": len(groups),
        "scaffolds of one molecule": sum(len(places) == 1 for places in groups.values()),
    }
    return placed, tally.close(len(examples), len(placed))


@cleaners.register("medical.canonical_smiles", text_normalizer=True, extra="chem")
def canonical_smiles(examples: Sequence[Example], *, kekule: bool = False) -> tuple[list[Example], StepAccount]:
    """Write each molecule in RDKit's one way, whatever way it came in.

    kekule  with alternating double bonds in place of small letters for aromatic atoms: C1=CC=CC=C1 for c1ccccc1. For readers that do not
            tell capitals from small letters, as those of uncased base models and of TF-IDF, to which cyclohexane (C1CCCCC1) and
            benzene (c1ccccc1) would else be the same

    Rows that RDKit cannot read are dropped. Labels never change.
    """
    tally = Tally("medical.canonical_smiles")
    cleaned = []
    for example in examples:
        try:
            changed = change_text(example, lambda text: _canonicalize(text, kekule))
        except ValueError:
            tally.drop(example.id, UNREADABLE)
            continue
        if changed is not example:
            tally.change(example.id, "written canonically")
        cleaned.append(changed)
    return cleaned, tally.close(len(examples), len(cleaned))


@cleaners.register("medical.fingerprints", text_normalizer=True, extra="chem")
def fingerprints(
    examples: Sequence[Example],
    *,
    radius: Annotated[int, Field(ge=0, le=6)] = 2,
    size: Annotated[int, Field(ge=16, le=65536)] = 1024,
    counts: bool = True,
) -> tuple[list[Example], StepAccount]:
    """Put each molecule's Morgan fingerprint and 17 descriptors into its `values`, for members that read numbers.

    radius  bonds around an atom that a piece of the molecule may reach (Rogers and Hahn, 2010); 2 is what is called ECFP4
    size    numbers that pieces are folded into
    counts  how often a piece occurs, or only whether it does

    Values are (size + 17,) float32. Rows that RDKit cannot read are dropped; text and label never change.
    """
    _import_rdkit()
    from rdkit.Chem import rdFingerprintGenerator

    generator = rdFingerprintGenerator.GetMorganGenerator(radius=radius, fpSize=size)
    tally = Tally("medical.fingerprints")
    cleaned = []
    for example in examples:
        molecule = _parse_molecule(example.text)
        if molecule is None:
            tally.drop(example.id, UNREADABLE)
            continue
        pieces = generator.GetCountFingerprintAsNumPy(molecule).astype(np.float32)
        values = np.concatenate([pieces if counts else np.minimum(pieces, 1), _compute_features(molecule)])
        cleaned.append(replace(example, values=values))
    return cleaned, tally.close(len(examples), len(cleaned))


@augmentations.register("medical.random_smiles", extra="chem")
def random_smiles(example: Example, rng: random.Random, *, p: Share = 1.0) -> Example:
    """With probability p write the molecule from another atom on, another branch first (Bjerrum, 2017; Arús-Pous et al., 2019).

    Aromatic atoms are written as the row writes them: in small letters, or by alternating double bonds. What is written is read
    back, and the row stays unchanged if that gives another molecule, or if it is not a SMILES. The label never changes.
    """
    return change_text(example, lambda text: _rewrite_smiles(text, rng)) if rng.random() < p else example


def _rewrite_smiles(text: str, rng: random.Random) -> str:
    chem = _import_rdkit()
    molecule = _parse_molecule(text)
    if molecule is None:
        return text
    same = chem.MolToSmiles(molecule)
    order = rng.sample(range(molecule.GetNumAtoms()), molecule.GetNumAtoms())
    kekule = not any(atom.GetIsAromatic() for atom in chem.MolFromSmiles(text.strip(), sanitize=False).GetAtoms())
    if kekule:
        chem.Kekulize(molecule, clearAromaticFlags=True)
    written = str(chem.MolToSmiles(chem.RenumberAtoms(molecule, order), canonical=False, kekuleSmiles=kekule))
    parsed = _parse_molecule(written)
    return written if parsed is not None and chem.MolToSmiles(parsed) == same else text


def _canonicalize(text: str, kekule: bool) -> str:
    """RDKit's canonical SMILES of a molecule; ValueError for an invalid one."""
    chem = _import_rdkit()
    molecule = _parse_molecule(text)
    if molecule is None:
        raise ValueError(text)
    plain = str(chem.MolToSmiles(molecule))
    if not kekule:
        return plain
    molecule = _parse_molecule(plain)  # atoms in canonical order, so that the same double bonds are chosen whatever came in
    chem.Kekulize(molecule, clearAromaticFlags=True)
    return str(chem.MolToSmiles(molecule, kekuleSmiles=True))


def _find_scaffold(molecule: Any) -> str:
    """Rings and what links them, without side chains, and without regard to left- and right-handed forms."""
    from rdkit.Chem.Scaffolds import MurckoScaffold

    scaffolds: Any = MurckoScaffold
    return str(scaffolds.MurckoScaffoldSmiles(mol=molecule, includeChirality=False)) or ACYCLIC


def _compute_features(molecule: Any) -> NDArray[np.float32]:
    """The numbers that DESCRIPTORS names."""
    from rdkit.Chem import GraphDescriptors, rdMolDescriptors, rdmolops

    known: Any = rdMolDescriptors
    graphs: Any = GraphDescriptors
    atoms = molecule.GetNumHeavyAtoms()
    oil, refraction = known.CalcCrippenDescriptors(molecule)
    return np.array(
        [
            known.CalcExactMolWt(molecule),
            oil,
            refraction,
            known.CalcTPSA(molecule),
            known.CalcLabuteASA(molecule),
            known.CalcNumHBD(molecule),
            known.CalcNumHBA(molecule),
            known.CalcNumRotatableBonds(molecule),
            known.CalcNumRings(molecule),
            known.CalcNumAromaticRings(molecule),
            known.CalcNumAliphaticRings(molecule),
            known.CalcNumHeteroatoms(molecule),
            known.CalcFractionCSP3(molecule),
            atoms,
            sum(atom.GetIsAromatic() for atom in molecule.GetAtoms()) / max(atoms, 1),
            rdmolops.GetFormalCharge(molecule),
            graphs.BertzCT(molecule),
        ],
        dtype=np.float32,
    )


def _parse_molecule(text: str) -> Any:
    """RDKit's molecule; None for what is not one SMILES, of which RDKit's complaints are not printed.

    RDKit would take the text after a blank as the molecule's name, and so a sentence that begins with "I" for iodine.
    """
    chem = _import_rdkit()
    from rdkit import rdBase

    words = text.split()
    if len(words) != 1:
        return None
    quiet = rdBase.BlockLogs()
    try:
        return chem.MolFromSmiles(words[0])
    finally:
        del quiet


def _import_rdkit() -> Any:
    """RDKit's chemistry.

    Raises MissingExtra.
    """
    try:
        from rdkit import Chem
    except ImportError as error:
        raise MissingExtra("chem", f"reading a molecule's SMILES ({error})") from None
    return Chem
