"""Where a version comes from, how two differ, and which versions saw a source or a record."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from vertical_sdk.card import Card, Parent
from vertical_sdk.errors import CorruptAdapter, RegistryError
from vertical_sdk.record_index import KINDS, SEEN, Kind, count_records, find_record
from vertical_sdk.registry.registry import Registry
from vertical_sdk.registry.store import Manifest
from vertical_sdk.registry.tree import tree_problems
from vertical_sdk.registry.version import Version

__all__ = ["Ancestor", "Difference", "Lineage", "Side", "Use", "diff", "lineage", "used_data", "find_record_uses"]

DIGITS = re.compile(r"[0-9a-f]{8,64}")
WHOLE = 64
PAGE = 500
MISSING = "(not set)"


@dataclass(frozen=True)
class Ancestor:
    """An adapter that training went on from.

    given    as the card of its child names it
    weights  SHA-256 of its adapter_model.safetensors
    version  what this registry has with those weights; None where it has none, and nothing further back is known
    """

    given: str
    weights: str
    version: str | None


@dataclass(frozen=True)
class Lineage:
    """What a version was made of, by whom, and what was said of it.

    base        its fingerprint
    recipe      name and digest
    sources     of its data, with digests and licences; those of its parents stand with them
    versions    of the library and what it stands on, when it was trained; of an adapter that was imported, when its self_tests were made
    trained     when; None where that is not known, as of an adapter that was imported
    parents     nearest first; children: versions of this registry that go on from it
    remembers   part of the data → "id" or "group" → how many of them its index knows; empty where it keeps none
    metrics     system → metric → value with interval, on the test rows
    verdict     what the gate said, with reasons; None where it was never asked
    signed_by   fingerprints of keys
    """

    reference: str
    digest: str
    created: str
    who: str
    task: str
    base: dict[str, Any]
    recipe: dict[str, str]
    sources: list[dict[str, Any]]
    versions: dict[str, str]
    trained: str | None
    imported: bool
    parents: list[Ancestor]
    children: list[str]
    remembers: dict[str, dict[str, int]]
    metrics: dict[str, dict[str, dict[str, float | None]]]
    gate: str
    verdict: dict[str, Any] | None
    forced: bool
    reason: str
    revoked: str | None
    signed_by: list[str]
    aliases: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Side:
    """A value of two versions; `difference` is the second less the first, of numbers that both have."""

    one: Any
    other: Any
    difference: float | None = None


@dataclass(frozen=True)
class Difference:
    """How two versions differ; what is equal is left out, but for metrics.

    base, versions  keys of the fingerprint, and libraries
    recipe          dotted key → its two values
    sources         source → the digest that each has
    metrics         metric → the specialists' values with their intervals. They compare as they stand only where both were measured on
                    the same rows: `same_rows` is True where the cards cannot tell them apart (sources, split and number of rows)
    files           path → "changed", or "only in" one of them
    """

    one: str
    other: str
    base: dict[str, Side] = field(default_factory=dict)
    versions: dict[str, Side] = field(default_factory=dict)
    recipe: dict[str, Side] = field(default_factory=dict)
    sources: dict[str, Side] = field(default_factory=dict)
    metrics: dict[str, Side] = field(default_factory=dict)
    same_rows: bool = False
    files: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Use:
    """A version that saw something.

    how      "source", or the parts of the data that it was in: "train", "validation", "test"
    through  the parent that saw it, where it is not the version's own data
    """

    version: Version
    how: tuple[str, ...]
    through: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "reference": str(self.version),
            "how": list(self.how),
            "through": self.through,
            "aliases": list(self.version.aliases),
            "created": self.version.created,
            "who": self.version.who,
            "revoked": self.version.revoked,
        }


def lineage(registry: Registry, reference: str) -> Lineage:
    """Where a version comes from; one that was revoked can be asked too.

    Raises RegistryError where there is no such version, CorruptAdapter where its files are not as they were published.
    """
    version, card = _looked_up(registry, reference)
    systems: Mapping[str, Any] = card.metrics.get("systems") or {}
    weights = version.facts.get("weights", ())
    return Lineage(
        reference=str(version),
        digest=version.digest,
        created=version.created,
        who=version.who,
        task=card.task,
        base=card.base.model_dump(mode="json"),
        recipe={"name": str(card.recipe.get("name", card.name)), "digest": card.recipe_digest},
        sources=[source.model_dump(mode="json") for source in card.sources],
        versions=dict(card.versions),
        trained=None if card.training.get("imported") else card.created,
        imported=bool(card.training.get("imported")),
        parents=_ancestors(registry, card.parent),
        children=[str(child) for own in weights for child in _all(registry, f"parent={own}")],
        remembers=count_records(version.path),
        metrics={name: dict(system.get("metrics") or {}) for name, system in systems.items()},
        gate=version.gate,
        verdict=card.gate.model_dump(mode="json") if card.gate else None,
        forced=version.forced,
        reason=version.reason,
        revoked=version.revoked,
        signed_by=sorted(version.signatures),
        aliases=list(version.aliases),
    )


def diff(registry: Registry, one: str, other: str) -> Difference:
    """How one version differs from another.

    Raises RegistryError where there is no such version, CorruptAdapter where its files are not as they were published.
    """
    (first, mine), (second, theirs) = _looked_up(registry, one), _looked_up(registry, other)
    manifests = registry.store.manifest(first.digest), registry.store.manifest(second.digest)
    own = [{source.source: source.sha256 for source in card.sources} for card in (mine, theirs)]
    judged = [
        (own[at], {key: card.recipe.get("data", {}).get(key) for key in ("split", "decontaminate")}, card.metrics.get("rows"))
        for at, card in enumerate((mine, theirs))
    ]
    return Difference(
        one=str(first),
        other=str(second),
        base=_sides(mine.base.model_dump(mode="json"), theirs.base.model_dump(mode="json")),
        versions=_sides(mine.versions, theirs.versions),
        recipe=_sides(dict(_flat(mine.recipe)), dict(_flat(theirs.recipe)), missing=MISSING),
        sources=_sides(*own),
        metrics=_metrics(mine, theirs),
        same_rows=judged[0] == judged[1],
        files=_files(*manifests, (str(first), str(second))),
    )


def find_data_uses(registry: Registry, digest: str) -> Sequence[Use]:
    """The versions whose card names a source of data, and those that went on from them.

    digest  its SHA-256, or 8 and more of its first digits, with or without "sha256:"

    Raises RegistryError for what is no digest.
    """
    wanted = digest.strip().lower().removeprefix("sha256:")
    if not DIGITS.fullmatch(wanted):
        raise RegistryError(f"{digest!r} is not a source's digest: write its SHA-256, or 8 and more of its first hex digits.")
    if len(wanted) == WHOLE:
        found = _all(registry, f"source={wanted}")
    else:
        found = (v for v in _all(registry) if any(sha256.startswith(wanted) for sha256 in v.facts.get("source", ())))
    return _with_children(registry, [Use(version, ("source",)) for version in found])


def find_record_uses(registry: Registry, name: str, kind: Kind | None = None) -> Sequence[Use]:
    """The versions that saw a record in training or evaluation, and those that went on from them.

    name  the record's id as its source has it, or that of a group such as a patient
    kind  only as the one or the other; both where it is None

    Only versions that keep an index (`data.seen`) can be asked; a registry that is elsewhere downloads those. Raises CorruptAdapter.
    """
    if not name.strip():
        raise RegistryError("no record has an empty id: write it as its source has it.")
    found = []
    for version in _all(registry):
        manifest = registry.store.manifest(version.digest)
        if SEEN not in manifest:
            continue
        _check(version, {SEEN: manifest[SEEN]})
        parts = [part for one in KINDS if kind in {None, one} for part in find_record(version.path, name, one)]
        if parts:
            found.append(Use(version, tuple(dict.fromkeys(parts))))
    return _with_children(registry, found)


def _looked_up(registry: Registry, reference: str) -> tuple[Version, Card]:
    """A version to be looked at, revoked or not, signed or not, and its card; the files are as they were published."""
    version = registry.resolve(reference, check=False)
    _check(version, registry.store.manifest(version.digest), whole=True)
    return version, version.card


def _check(version: Version, manifest: Manifest, *, whole: bool = False) -> None:
    """Raise CorruptAdapter where some files, or the whole folder, are not as they were published."""
    wrong = tree_problems(version.path, manifest)
    wrong = wrong if whole else [line for line in wrong if not line.endswith("does not belong to it")]
    if wrong:
        raise CorruptAdapter(f"{version}: {'; '.join(wrong)} (in {version.path}). Publish the same adapter again to mend it.")


def _all(registry: Registry, *conditions: str) -> Iterator[Version]:
    """The versions that meet all conditions, page by page."""
    after: Version | None = None
    while page := registry.search(*conditions, after=after, limit=PAGE):
        yield from page
        if len(page) < PAGE:
            return
        after = page[-1]


def _ancestors(registry: Registry, parent: Parent | None) -> list[Ancestor]:
    found: list[Ancestor] = []
    while parent is not None and parent.weights not in {one.weights for one in found}:
        here = list(_all(registry, f"weights={parent.weights}"))
        version = next((v for v in here if v.digest == parent.version), here[0] if here else None)
        found.append(Ancestor(parent.reference, parent.weights, str(version) if version else None))
        parent = version.card.parent if version else None
    return found


def _with_children(registry: Registry, found: Sequence[Use]) -> list[Use]:
    """With the versions that went on from those that were found, at any distance, by name and number."""
    known = {str(use.version): use for use in found}
    left = list(found)
    while left:
        use = left.pop()
        for weights in use.version.facts.get("weights", ()):
            for child in _all(registry, f"parent={weights}"):
                if str(child) not in known:
                    known[str(child)] = Use(child, use.how, use.through or str(use.version))
                    left.append(known[str(child)])
    return sorted(known.values(), key=lambda use: (use.version.name, use.version.number))


def _flat(value: Any, at: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted key → value of plain data; the places of a list are keys too."""
    steps: Sequence[tuple[Any, Any]] = ()
    if isinstance(value, Mapping):
        steps = list(value.items())
    elif isinstance(value, list | tuple):
        steps = list(enumerate(value))
    if not steps:
        yield at, value
    for key, below in steps:
        yield from _flat(below, f"{at}.{key}" if at else str(key))


def _sides(one: Mapping[str, Any], other: Mapping[str, Any], missing: Any = None) -> dict[str, Side]:
    keys = sorted({*one, *other})
    pairs = {key: Side(one.get(key, missing), other.get(key, missing)) for key in keys}
    return {key: side for key, side in pairs.items() if side.one != side.other}


def _metrics(one: Card, other: Card) -> dict[str, Side]:
    mine, theirs = (((card.metrics.get("systems") or {}).get("adapter") or {}).get("metrics") or {} for card in (one, other))
    found = {}
    for name in sorted({*mine, *theirs}):
        values: list[Any] = [(side.get(name) or {}).get("value") for side in (mine, theirs)]
        a, b = values
        known = isinstance(a, int | float) and isinstance(b, int | float)
        found[name] = Side(mine.get(name), theirs.get(name), b - a if known else None)
    return found


def _files(one: Manifest, other: Manifest, names: tuple[str, str]) -> dict[str, str]:
    found = {}
    for path in sorted({*one, *other}):
        if path not in one or path not in other:
            found[path] = f"only in {names[path in other]}"
        elif one[path].sha256 != other[path].sha256:
            found[path] = "changed"
    return found
