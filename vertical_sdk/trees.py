"""Boosted trees as plain arrays, walked in numpy: nothing outside this file reads a stored tree.

LightGBM fits them. Its own reader trusts its text, so a changed text makes it read and write outside its memory. Here the text is parsed
into arrays, and every index in them is checked before the first answer. The answers are LightGBM's own, bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Trees", "has_trees", "join_trees", "parse_trees", "read_trees"]

MOST_TREES, MOST_NODES, DEEPEST = 100_000, 5_000_000, 4096
"""Trees of one model, splits of all of them, and splits between a root and a leaf. LightGBM's default is 100 trees of 30 splits."""
CELLS = 1 << 15
"""Pairs of a row and a tree that are walked at once: what they need stays in a processor's cache."""
CATEGORICAL, DEFAULT_LEFT = 1, 2
"""Bits of `decision`. The two bits after them say what is missing: NOTHING (NaN counts as 0), ZERO (0 and NaN), or NAN."""
NOTHING, ZERO, NAN = 0, 1, 2
SMALL = float(np.float32(1e-35))
"""LightGBM's zero: what is at most this far from 0."""
PREFIX = "trees."
Ints = NDArray[np.int32]
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Trees:
    """Trees that sum up to one number for each output. A tree's children are numbered within the tree.

    output           (trees,) int32     the output that the tree adds to
    leaves           (trees,) int32     its leaves; a tree of n leaves has n - 1 splits
    feature          (splits,) int32    the column that the split reads
    threshold        (splits,) float64  values up to here go left; 0 for a split on categories
    decision         (splits,) uint8    CATEGORICAL, DEFAULT_LEFT and what is missing
    left, right      (splits,) int32    the child's number, always larger than its parent's; -1 - n for leaf n
    category_start   (splits + 1,) int32   where the split's words begin in `category_words`
    category_words   (words,) uint32    sets of bits: the categories that go left
    value            (all leaves,) float64
    """

    output: Ints
    leaves: Ints
    feature: Ints
    threshold: Floats
    decision: NDArray[np.uint8]
    left: Ints
    right: Ints
    category_start: Ints
    category_words: NDArray[np.uint32]
    value: Floats

    def __post_init__(self) -> None:
        _check_trees(self)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays, as `read_trees` takes them."""
        return {PREFIX + item.name: getattr(self, item.name) for item in fields(self)}

    def require(self, *, outputs: int, features: int) -> Trees:
        """Raise ValueError unless the trees add to so many outputs at most, and read so many columns at most."""
        for name, limit in (("output", outputs), ("feature", features)):
            values = getattr(self, name)
            if len(values) and int(values.max()) >= limit:
                raise ValueError(f"{PREFIX}{name} contains {int(values.max())}, and there are {limit}")
        return self

    def sums(self, table: NDArray[Any], outputs: int) -> Floats:
        """Add up the leaves that each row reaches, tree after tree: (rows, outputs).

        table  (rows, features) float32 or float64, NaN if unknown
        """
        self.require(outputs=outputs, features=table.shape[1])
        walk = _Walk(self)
        trees_of = [np.flatnonzero(self.output == output) for output in range(outputs)]
        sums = np.zeros((len(table), outputs))
        step = max(1, CELLS // max(1, len(self.leaves)))
        for start in range(0, len(table), step):
            reached = walk.values(_clip(table[start : start + step]))
            for output, own in enumerate(trees_of):
                sums[start : start + step, output] = reached[own].sum(axis=0)
        return sums

    def has_output(self, output: int) -> bool:
        """Whether any tree adds to the output."""
        return bool((self.output == output).any())


def _clip(values: NDArray[Any]) -> Floats:
    """Replace infinities by the largest float64. LightGBM splits NaN from all numbers at infinity."""
    largest = np.finfo(np.float64).max
    return np.clip(np.ascontiguousarray(values, dtype=np.float64), -largest, largest)


class _Walk:
    """Trees with the children numbered through all trees, for one walk over many rows."""

    def __init__(self, trees: Trees) -> None:
        splits, leaf_start = trees.leaves - 1, np.cumsum(trees.leaves) - trees.leaves
        first = np.cumsum(splits) - splits
        self.trees = trees
        self.roots = np.where(splits > 0, first, -1 - leaf_start).astype(np.int64)
        by_split = [np.repeat(one, splits) for one in (first, leaf_start)]
        self.children = np.stack(
            [np.where(one >= 0, one + by_split[0], one - by_split[1]) for one in (trees.right, trees.left)], axis=1
        ).reshape(-1)
        self.feature = trees.feature.astype(np.int64)
        missing, by_default = trees.decision >> 2 & 3, (trees.decision & DEFAULT_LEFT) > 0
        self.unknown_left = np.where(missing == NOTHING, trees.threshold >= 0, by_default)
        self.special = (missing == ZERO) | (trees.decision & CATEGORICAL > 0)
        self.words = np.append(trees.category_words, np.uint32(0))  # so that a set without words can be looked up
        self.plain = not self.special.any()

    def values(self, table: Floats) -> Floats:
        """The value of the leaf that each row reaches in each tree: (trees, rows)."""
        rows, columns = table.shape
        place = np.repeat(self.roots, rows)
        walking = np.flatnonzero(place >= 0)
        node, cell = place[walking], walking % rows * columns
        cells = table.reshape(-1)
        while len(walking):
            seen = cells[cell + self.feature[node]]
            node = self.children[2 * node + self._goes_left(seen, node)]
            inside = node >= 0
            if not inside.all():
                done = ~inside
                place[walking[done]] = node[done]
                walking, node, cell = walking[inside], node[inside], cell[inside]
        return self.trees.value[-1 - place].reshape(-1, rows)

    def _goes_left(self, seen: Floats, node: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether values go left at their splits, by LightGBM's rules."""
        left = seen <= self.trees.threshold[node]
        unknown = np.isnan(seen)
        if unknown.any():
            left |= unknown & self.unknown_left[node]
        if self.plain:
            return left
        special = np.flatnonzero(self.special[node])
        seen, node = seen[special], node[special]
        decision = self.trees.decision[node]
        by_zero = np.where(np.abs(seen) <= SMALL, (decision & DEFAULT_LEFT) > 0, left[special])
        left[special] = np.where(decision & CATEGORICAL > 0, self._in_category(seen, node), by_zero)
        return left

    def _in_category(self, seen: Floats, node: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether values, without their decimals, are among the categories of their splits; NaN and negative ones are not."""
        trees = self.trees
        start, end = trees.category_start[node].astype(np.int64), trees.category_start[node + 1]
        known = (seen > -1) & (seen < 32.0 * (end - start))  # False for NaN
        category = np.where(known, seen, 0.0).astype(np.int64)
        word = self.words[np.where(known, start + category // 32, 0)]
        return known & ((word >> (category % 32).astype(np.uint32) & 1) > 0)


def has_trees(arrays: Mapping[str, Any]) -> bool:
    """Whether arrays contain trees."""
    return any(name.startswith(PREFIX) for name in arrays)


def read_trees(arrays: Mapping[str, NDArray[Any]]) -> Trees:
    """Read trees from arrays of `Trees.to_arrays`; other arrays are ignored.

    Raises ValueError that names the array: it is missing or of another type, an index is out of range, or a number is not finite.
    """
    names = [item.name for item in fields(Trees)]
    missing = [name for name in names if PREFIX + name not in arrays]
    if missing:
        raise ValueError(f"{PREFIX}{missing[0]} is missing")
    return Trees(**{name: arrays[PREFIX + name] for name in names})


def join_trees(models: Sequence[Trees | None]) -> Trees:
    """Join trees of one output each: those of the n-th model add to output n, which has no trees if the model is None."""
    known = [(number, one) for number, one in enumerate(models) if one is not None]
    parts: dict[str, list[NDArray[Any]]] = {item.name: [getattr(one, item.name) for _, one in known] for item in fields(Trees)}
    parts["output"] = [np.full(len(one.leaves), number) for number, one in known]
    words = np.cumsum([0, *(len(one.category_words) for _, one in known)])
    starts = [one.category_start[:-1] + before for (_, one), before in zip(known, words[:-1], strict=True)]
    parts["category_start"] = [*starts, np.array([words[-1]])]
    return Trees(**{name: _join(values, name) for name, values in parts.items()})


TYPES: dict[str, type[np.generic]] = {
    "threshold": np.float64,
    "value": np.float64,
    "decision": np.uint8,
    "category_words": np.uint32,
}


def _join(values: Sequence[NDArray[Any]], name: str) -> NDArray[Any]:
    return np.concatenate([np.zeros(0), *values]).astype(TYPES.get(name, np.int32))


def _check_trees(trees: Trees) -> None:
    """Check everything that a walk relies on.

    Raises ValueError that names the array.
    """
    for item in fields(trees):
        values, dtype = getattr(trees, item.name), TYPES.get(item.name, np.int32)
        if values.dtype != dtype or values.ndim != 1:
            shape = f"{values.dtype} of {values.ndim} dimensions"
            raise ValueError(f"{PREFIX}{item.name} must be {np.dtype(dtype)} of one dimension, and is {shape}")
        if dtype == np.float64 and not np.isfinite(values).all():
            raise ValueError(f"{PREFIX}{item.name} contains a number that is not finite")
    _refuse(len(trees.leaves) > MOST_TREES, "leaves", f"has {len(trees.leaves)} trees, and at most {MOST_TREES} are read")
    _refuse(bool((trees.leaves < 1).any()), "leaves", "contains a tree without leaves")
    splits = int(trees.leaves.astype(np.int64).sum()) - len(trees.leaves)
    _refuse(splits > MOST_NODES, "leaves", f"has {splits} splits, and at most {MOST_NODES} are read")
    lengths = {"output": len(trees.leaves), "value": splits + len(trees.leaves), "category_start": splits + 1}
    for name in ("output", "feature", "threshold", "decision", "left", "right", "category_start", "value"):
        expected = lengths.get(name, splits)
        found = len(getattr(trees, name))
        _refuse(found != expected, name, f"has {found} entries, and {expected} are needed")
    for name in ("output", "feature"):
        _refuse(bool((getattr(trees, name) < 0).any()), name, "contains a negative number")
    _refuse(bool((trees.decision > (NAN << 2 | DEFAULT_LEFT | CATEGORICAL)).any()), "decision", "contains an unknown kind")
    start = trees.category_start
    ordered = start[0] == 0 and start[-1] == len(trees.category_words) and not (np.diff(start) < 0).any()
    _refuse(not ordered, "category_start", "does not divide the words")
    _check_shape(trees)


def _refuse(wrong: bool, name: str, problem: str) -> None:
    if wrong:
        raise ValueError(f"{PREFIX}{name} {problem}")


def _check_shape(trees: Trees) -> None:
    """Check that each tree is one: each split but the root and each leaf is the child of exactly one split with a smaller number."""
    splits = trees.leaves - 1
    own = np.arange(int(splits.sum())) - np.repeat(np.cumsum(splits) - splits, splits)
    most = np.repeat(trees.leaves, splits).astype(np.int64)
    leaf_start = np.repeat(np.cumsum(trees.leaves) - trees.leaves, splits)
    reached_splits, reached_leaves = [], []
    for name in ("left", "right"):
        child = getattr(trees, name).astype(np.int64)
        _refuse(bool((child >= most - 1).any()), name, "names a split that its tree does not have")
        _refuse(bool(((child >= 0) & (child <= own)).any()), name, "names a split before its parent, which is a circle")
        _refuse(bool((child < -most).any()), name, "names a leaf that its tree does not have")
        reached_splits.append((child + np.arange(len(child)) - own)[child >= 0])
        reached_leaves.append((leaf_start - 1 - child)[child < 0])
    for part, size in ((reached_splits, len(own)), (reached_leaves, int(trees.leaves[splits > 0].sum()))):
        joined = np.concatenate(part)
        roots = int((splits > 0).sum()) if part is reached_splits else 0
        _refuse(len(joined) + roots != size or len(np.unique(joined)) != len(joined), "left", "reaches a split or leaf twice")
    _check_depth(trees)


def _check_depth(trees: Trees) -> None:
    """Follow all trees from the roots down, at most DEEPEST splits."""
    walk = _Walk(trees)
    level = walk.roots[walk.roots >= 0]
    for _ in range(DEEPEST):
        level = np.concatenate([walk.children[2 * level], walk.children[2 * level + 1]])
        level = level[level >= 0]
        if not len(level):
            return
    raise ValueError(f"{PREFIX}left leads more than {DEEPEST} splits deep")


def parse_trees(text: str, objective: str | None = None) -> Trees:
    """Parse LightGBM's text of a model.

    objective  the objective that it must have, such as "binary sigmoid:1"; None: any

    Raises ValueError that names the line: it is not such a text, or of a kind that is not read (linear trees, random forests).
    """
    lines = iter(text.splitlines())
    if next(lines, "") != "tree":
        raise ValueError("the text of the trees does not begin with a line 'tree'")
    head = dict(_pairs(lines, "Tree=0"))
    outputs = _one_int(head, "num_tree_per_iteration")
    if head.get("version") not in {"v3", "v4"} or "average_output" in head:
        raise ValueError(f"the trees are of version {head.get('version')!r} or averaged; boosted trees of v3 and v4 are read")
    if objective is not None and head.get("objective") != objective:
        raise ValueError(f"the objective of the trees is {head.get('objective')!r}, and {objective!r} is needed")
    if not 1 <= outputs <= MOST_TREES:
        raise ValueError(f"num_tree_per_iteration is {outputs}")
    parts: dict[str, list[NDArray[Any]]] = {item.name: [] for item in fields(Trees)}
    for number in range(MOST_TREES + 1):
        tree = dict(_pairs(lines, f"Tree={number + 1}", "end of trees"))
        for name, values in _parse_tree(tree, sum(map(len, parts["category_words"]))).items():
            parts[name].append(values)
        parts["output"].append(np.array([number % outputs]))
        if "end of trees" in tree:
            break
    if len(parts["output"]) % outputs:
        raise ValueError(f"{len(parts['output'])} trees cannot be divided among {outputs} outputs")
    parts["category_start"].append(np.array([sum(map(len, parts["category_words"]))]))
    return Trees(**{name: _join(values, name) for name, values in parts.items()})


def _pairs(lines: Iterator[str], *ends: str) -> Iterator[tuple[str, str]]:
    """Read lines KEY=VALUE up to one of the ends, which comes last. Raises ValueError for a repeated key, or without an end."""
    seen = set()
    for line in lines:
        if line in ends:
            yield line, ""
            return
        key, _, value = line.partition("=")
        if not key:
            continue
        if key in seen:
            raise ValueError(f"{key[:40]!r} is repeated in one tree")
        seen.add(key)
        yield key, value
    raise ValueError(f"the text of the trees ends before {ends[-1]!r}")


def _one_int(pairs: Mapping[str, str], key: str) -> int:
    numbers = _numbers(pairs, key, np.int64)
    if len(numbers) != 1:
        raise ValueError(f"{key} must be one number, and is {pairs.get(key, '')[:40]!r}")
    return int(numbers[0])


def _numbers(pairs: Mapping[str, str], key: str, dtype: type[np.generic]) -> NDArray[Any]:
    """Parse numbers with spaces between them."""
    if key not in pairs:
        raise ValueError(f"{key} is missing")
    try:
        return np.array(pairs[key].split(), dtype=dtype)
    except (ValueError, OverflowError):
        raise ValueError(f"{key} contains something else than numbers of its type: {pairs[key][:40]!r}") from None


def _parse_tree(tree: Mapping[str, str], words_before: int) -> dict[str, NDArray[Any]]:
    """Parse one tree; of `category_start` without its last entry."""
    if tree.get("is_linear", "0") != "0":
        raise ValueError("linear trees are not read")
    leaves = _one_int(tree, "num_leaves")
    names = {"feature": "split_feature", "threshold": "threshold", "decision": "decision_type"}
    names |= {"left": "left_child", "right": "right_child", "value": "leaf_value"}
    parts = {name: _numbers(tree, key, TYPES.get(name, np.int32)) for name, key in names.items()}
    if not 1 <= leaves <= MOST_NODES or len(parts["value"]) != leaves:
        raise ValueError(f"num_leaves is {leaves}, and leaf_value has {len(parts['value'])}")
    for name, key in names.items():
        if name != "value" and len(parts[name]) != leaves - 1:
            raise ValueError(f"{key} has {len(parts[name])} entries, and {leaves - 1} are needed")
    count = _one_int(tree, "num_cat")
    start, words = np.zeros(1, np.int64), np.zeros(0, np.uint32)
    if count:
        start, words = _numbers(tree, "cat_boundaries", np.int64), _numbers(tree, "cat_threshold", np.uint32)
        if len(start) != count + 1 or start[0] != 0 or start[-1] != len(words) or (np.diff(start) < 0).any():
            raise ValueError("cat_boundaries does not divide cat_threshold")
    return parts | {"leaves": np.array([leaves])} | _split_categories(parts, start, words, words_before)


def _split_categories(
    parts: dict[str, NDArray[Any]], start: NDArray[np.int64], words: NDArray[np.uint32], words_before: int
) -> dict[str, NDArray[Any]]:
    """Give each split on categories its own words. In LightGBM's text its threshold is the number of its set."""
    categorical = parts["decision"] & CATEGORICAL > 0
    number = parts["threshold"][categorical]
    if not np.array_equal(np.sort(number), np.arange(len(start) - 1)):
        raise ValueError("the thresholds of splits on categories do not name each of the tree's sets once")
    number = number.astype(np.int64)
    sizes = np.zeros(len(categorical), np.int64)
    sizes[categorical] = start[number + 1] - start[number]
    sets = [words[start[one] : start[one + 1]] for one in number]
    return {
        "threshold": _clip(np.where(categorical, 0.0, parts["threshold"])),
        "category_start": words_before + np.cumsum(sizes) - sizes,
        "category_words": np.concatenate([np.zeros(0, np.uint32), *sets]),
    }
