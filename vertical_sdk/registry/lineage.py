"""The lineage of a version, the difference between two versions, and the versions that used a source or a record."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from vertical_sdk.card import Card, Parent, hide_paths
from vertical_sdk.errors import CorruptAdapter, RegistryError
from vertical_sdk.record_index import KINDS, RECORD_INDEX, Kind, count_records, find_record
from vertical_sdk.registry.registry import Registry
from vertical_sdk.registry.signature_check import check_signatures
from vertical_sdk.registry.store import Manifest
from vertical_sdk.registry.tree import tree_problems
from vertical_sdk.registry.version import Version

__all__ = [
    "Ancestor",
    "Difference",
    "Lineage",
    "Side",
    "Use",
    "diff",
    "find_data_uses",
    "find_record_uses",
    "lineage",
]

DIGITS = re.compile(r"[0-9a-f]{8,64}")
WHOLE = 64
PAGE = 500
MISSING = "(not set)"


@dataclass(frozen=True)
class Ancestor:
    """An adapter that was the warm start of another.

    given    its name in the card of its child
    weights  SHA-256 of its adapter_model.safetensors
    version  the version of this registry with those weights; None if there is no such version, and then no earlier ancestor is known
    """

    given: str
    weights: str
    version: str | None


@dataclass(frozen=True)
class Lineage:
    """Where a version comes from: base, recipe, data, parents, evaluation, publisher.

    base        fingerprint of the base
    recipe      name and digest
    sources     sources of its data, with digests and licences; the parents list their own
    versions    versions of the library and its dependencies at training; for an imported adapter, at the recording of its self-tests
    trained     time of training; None if unknown, as for an imported adapter
    parents     nearest first
    children    versions of this registry that were trained from it as a warm start
    remembers   part of the data → "id" or "group" → how many its record index contains; empty if it has no index
    metrics     system → metric → value with interval, on the test rows
    verdict     result of the gate with reasons; None if it was not evaluated
    vouched     who vouches for the results, in words
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
    vouched: str
    signed_by: list[str]
    aliases: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Side:
    """A value in two versions; `difference` is second minus first if both are numbers."""

    first: Any
    second: Any
    difference: float | None = None


@dataclass(frozen=True)
class Difference:
    """How two versions differ. Equal values are left out, except for metrics.

    base, versions  keys of the fingerprint, and libraries
    recipe          dotted key → its two values
    sources         source → its two digests
    metrics         metric → the specialists' values with intervals. They can only be compared if both were measured on the same rows
    same_rows       True if the cards show no difference between the test rows (sources, split, decontamination, number of rows)
    files           path → "changed", or "only in" one of them
    """

    first: str
    second: str
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
    """A version that used a source or a record.

    how      "source", or the parts of the data that contained the record: "train", "validation", "test"
    through  the parent that used it; None if it is in the version's own data
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
    """Describe where a version comes from, revoked or not.

    Raises RegistryError if there is no such version, CorruptAdapter if its files were changed after publishing.
    """
    version, card = _get_version(registry, reference)
    systems: Mapping[str, Any] = card.metrics.get("systems") or {}
    weights = version.facts.get("weights", ())
    signatures = check_signatures(version, registry.store.manifest(version.digest), registry.policy)
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
        children=[str(child) for own in weights for child in _search(registry, f"parent={own}")],
        remembers=count_records(version.path),
        metrics={name: dict(system.get("metrics") or {}) for name, system in systems.items()},
        gate=version.gate,
        verdict=card.gate.model_dump(mode="json") if card.gate else None,
        forced=version.forced,
        reason=version.reason,
        revoked=version.revoked,
        vouched=version.vouched,
        signed_by=[signature.made_by for signature in signatures if signature.state != "invalid"],
        aliases=list(version.aliases),
    )


def diff(registry: Registry, first: str, second: str) -> Difference:
    """Compare two versions.

    Raises RegistryError if there is no such version, CorruptAdapter if its files were changed after publishing.
    """
    (version_1, card_1), (version_2, card_2) = _get_version(registry, first), _get_version(registry, second)
    manifests = registry.store.manifest(version_1.digest), registry.store.manifest(version_2.digest)
    sources = [_name_sources(card) for card in (card_1, card_2)]
    test_rows = [
        (
            sources[n],
            {key: card.recipe.get("data", {}).get(key) for key in ("split", "decontaminate")},
            card.metrics.get("rows"),
        )
        for n, card in enumerate((card_1, card_2))
    ]
    return Difference(
        first=str(version_1),
        second=str(version_2),
        base=_diff_values(card_1.base.model_dump(mode="json"), card_2.base.model_dump(mode="json")),
        versions=_diff_values(card_1.versions, card_2.versions),
        recipe=_diff_values(dict(_flatten(card_1.recipe)), dict(_flatten(card_2.recipe)), missing=MISSING),
        sources=_diff_values(sources[0], sources[1]),
        metrics=_diff_metrics(card_1, card_2),
        same_rows=test_rows[0] == test_rows[1],
        files=_diff_files(*manifests, (str(version_1), str(version_2))),
    )


def find_data_uses(registry: Registry, digest: str) -> Sequence[Use]:
    """Find the versions whose card names a source of data, and the versions trained from them as a warm start.

    digest  SHA-256 of the source, or at least its first 8 digits, with or without "sha256:"

    Raises RegistryError for a malformed digest.
    """
    wanted = digest.strip().lower().removeprefix("sha256:")
    if not DIGITS.fullmatch(wanted):
        raise RegistryError(
            f"{digest!r} is not the digest of a source. Write its SHA-256, or at least the first 8 of its hex digits."
        )
    if len(wanted) == WHOLE:
        versions = _search(registry, f"source={wanted}")
    else:
        versions = (v for v in _search(registry) if any(sha256.startswith(wanted) for sha256 in v.facts.get("source", ())))
    return _add_children(registry, [Use(version, ("source",)) for version in versions])


def find_record_uses(registry: Registry, name: str, kind: Kind | None = None) -> Sequence[Use]:
    """Find the versions that used a record in training or evaluation, and the versions trained from them as a warm start.

    name  the record's id in its source, or the id of a group such as a patient
    kind  search only ids or only groups; both if None

    Only versions with a record index (`record_index`) can be searched; a remote registry downloads them. Raises CorruptAdapter, or
    RegistryError for an empty id.
    """
    if not name.strip():
        raise RegistryError("the id is empty. Write the id as it is in the source.")
    uses = []
    for version in _search(registry):
        if version.purged is not None:
            continue
        manifest = registry.store.manifest(version.digest)
        if RECORD_INDEX not in manifest:
            continue
        _check(version, {RECORD_INDEX: manifest[RECORD_INDEX]})
        kinds = KINDS if kind is None else (kind,)
        parts = [part for each in kinds for part in find_record(version.path, name, each)]
        if parts:
            uses.append(Use(version, tuple(dict.fromkeys(parts))))
    return _add_children(registry, uses)


def _name_sources(card: Card) -> dict[str, str]:
    """Name → digest of each source; a name that appears twice gets a number."""
    names: dict[str, str] = {}
    for source in card.sources:
        same = sum(name.partition(" (")[0] == source.source for name in names)
        names[f"{source.source} ({same + 1})" if same else source.source] = source.sha256
    return names


def _get_version(registry: Registry, reference: str) -> tuple[Version, Card]:
    """Get a version, revoked or not, signed or not, and its card, after checking that its files are unchanged."""
    version = registry.resolve(reference, check=False)
    _check(version, registry.store.manifest(version.digest), whole=True)
    return version, hide_paths(version.card)


def _check(version: Version, manifest: Manifest, *, whole: bool = False) -> None:
    """Raise CorruptAdapter if some files, or any in the whole folder, were changed after publishing."""
    problems = tree_problems(version.path, manifest)
    problems = problems if whole else [line for line in problems if not line.endswith("does not belong to it")]
    if problems:
        message = f"{version}: {'; '.join(problems)}. Publish the same adapter again to repair it."
        raise CorruptAdapter(message, where=version.path)


def _search(registry: Registry, *conditions: str) -> Iterator[Version]:
    """Find the versions that meet all conditions, page by page."""
    after: Version | None = None
    while page := registry.search(*conditions, after=after, limit=PAGE):
        yield from page
        if len(page) < PAGE:
            return
        after = page[-1]


def _ancestors(registry: Registry, parent: Parent | None) -> list[Ancestor]:
    ancestors: list[Ancestor] = []
    while parent is not None and parent.weights not in {ancestor.weights for ancestor in ancestors}:
        candidates = list(_search(registry, f"weights={parent.weights}"))
        version = next((v for v in candidates if v.digest == parent.version), candidates[0] if candidates else None)
        ancestors.append(Ancestor(parent.reference, parent.weights, str(version) if version else None))
        parent = version.card.parent if version else None
    return ancestors


def _add_children(registry: Registry, uses: Sequence[Use]) -> list[Use]:
    """Add the descendants of these versions, and sort by name and number."""
    known = {str(use.version): use for use in uses}
    remaining = list(uses)
    while remaining:
        use = remaining.pop()
        for weights in use.version.facts.get("weights", ()):
            for child in _search(registry, f"parent={weights}"):
                if str(child) not in known:
                    known[str(child)] = Use(child, use.how, use.through or str(use.version))
                    remaining.append(known[str(child)])
    return sorted(known.values(), key=lambda use: (use.version.name, use.version.number))


def _flatten(value: object, at: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted keys and values of plain data; positions in a list are keys too."""
    steps: Sequence[tuple[Any, Any]] = ()
    if isinstance(value, Mapping):
        steps = list(value.items())
    elif isinstance(value, list | tuple):
        steps = list(enumerate(value))
    if not steps:
        yield at, value
    for key, below in steps:
        yield from _flatten(below, f"{at}.{key}" if at else str(key))


def _diff_values(first: Mapping[str, Any], second: Mapping[str, Any], missing: str | None = None) -> dict[str, Side]:
    keys = sorted({*first, *second})
    sides = {key: Side(first.get(key, missing), second.get(key, missing)) for key in keys}
    return {key: side for key, side in sides.items() if side.first != side.second}


def _diff_metrics(first: Card, second: Card) -> dict[str, Side]:
    own = [((card.metrics.get("systems") or {}).get("adapter") or {}).get("metrics") or {} for card in (first, second)]
    sides = {}
    for name in sorted({*own[0], *own[1]}):
        a, b = ((metrics.get(name) or {}).get("value") for metrics in own)
        difference = b - a if isinstance(a, int | float) and isinstance(b, int | float) else None
        sides[name] = Side(own[0].get(name), own[1].get(name), difference)
    return sides


def _diff_files(first: Manifest, second: Manifest, names: tuple[str, str]) -> dict[str, str]:
    changes = {}
    for path in sorted({*first, *second}):
        if path not in first or path not in second:
            changes[path] = f"only in {names[path in second]}"
        elif first[path].sha256 != second[path].sha256:
            changes[path] = "changed"
    return changes
