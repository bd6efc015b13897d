"""Check that documents, docstrings, comments, messages and test names use plain, modern English.

`python tests/test_prose.py [PATH...]` prints each hit with its file, line and what to write instead, and counts them.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
CODE = ("vertical_sdk", "domains", "benchmarks", "tests")
LONGEST_TEST_NAME = 80
PROSE_WIDTH = 100

_BE = r"(?:is|are|was|were|has|have|had|does|do|did|can|cannot|may|must|needs?|takes?)"
_PLACE = r"(?:stored|saved|installed|located|mounted|defined|from|going|to|coming)"
_NOT_A_PLACE = r"(?<!see )(?<!knows )(?<!know )(?<!shows )(?<!show )(?<!say )(?<!says )(?<!finds )(?<!find )(?<!and )(?<!of )"

_RULES: list[tuple[str, str]] = [
    # Conditions.
    (r"\bwhere (?:there|(?-i:none)|nobody|nothing|no)\b", "if there is no ...; None means ..."),
    (
        rf"{_NOT_A_PLACE}\bwhere (?:it|they|he|she|this|that|these|those|one|both|only one|all|each|some) {_BE}\b(?! {_PLACE}\b)",
        "if it is ..., when it has ...",
    ),
    (
        rf"{_NOT_A_PLACE}\bwhere (?:an?|the|its|their|every|such) (?:[\w-]+ ){{1,3}}?{_BE}\b(?! {_PLACE}\b)",
        "if the ... is; for a place: the file that contains ...",
    ),
    (
        r"\bwho (?:has|have|had|needs?|wants?|asks?|gives?|holds?) (?:no|nothing|none|it|one|to)\b",
        "without ...; a user who ...",
    ),
    (r"\bwho was too late\b", "a writer that loses the race"),
    (r"\bwhoever\b", "anyone who ...; the user; the caller"),
    (r"\bnobody\b", "no one; or name who: no user, no caller, no other process"),
    (r"\bwhat not everybody\b|\bwhatever wants\b", "Optional features are extras. The error names a missing one."),
    (r"\bwhat is asked\b", "the input"),
    (r"\bwhat is usual\b", "the default"),
    (r"\bthat is so\b", "this is true; this holds; or drop it"),
    # Verbs.
    (r"\bstands?\b(?!-)", "is, contains, is listed, appears; 'stands for' is 'means'"),
    (r"\b(?:lies|lie in|lay in)\b", "is, is in, is stored in"),
    (r"(?<!there )\b(?:is|are|was|were) no\b(?! (?:longer|more|less|better|worse|different|other|one)\b)", "is not a ..."),
    (r"(?<!there )\b(?:is|are|was|were) (?-i:none)\b", "is missing; there is no ...; is not one of ..."),
    (r"\btold\b", "described, reported, labelled, passed, given"),
    (r"\bmend(?:s|ed|ing)?\b", "normalize, repair, correct, fix"),
    (r"\b(?:is|are|was|were|be|being) asked\b", "predict, query, call; 'the input is ...'"),
    (r"\b(?:goes|go|going|went|gone) on from\b", "continue from, warm-start from"),
    (r"\bbegun\b", "started"),
    # Adverbs and prepositions.
    (r"\banew\b", "again"),
    (r"\bthereby\b", "so, by this, with it"),
    (
        r"(?<!lag )(?<!lags )(?<!left )(?<!leave )(?<!leaves )\bbehind\b(?! (?:an?|the|your) (?:reverse )?(?:proxy|firewall|load balancer)\b)",
        "after (order), below, at the back of",
    ),
    (r"\bin front of\b", "before"),
    (r"\bas (?:it comes|they come)\b", "unchanged, untrained"),
    (r"\bof which (?:less|more)\b", "lower is better; higher is better"),
    # One word, one meaning.
    (r"\brivals?\b", "baseline"),
    (r"\bpartners?\b", "member (of the ensemble)"),
    (r"\btrunks?\b", "backbone"),
]

PHRASES = [
    # Python's None is not the word "none": the rules ask for small letters there.
    (re.compile(rule.replace(" ", r"\s"), re.IGNORECASE), write)
    for rule, write in _RULES
]

TEST_NAMES = [
    (
        re.compile(r"^test_(?:what|who|of|that|where)_"),
        "subject, verb, outcome: test_focal_with_gamma_zero_equals_cross_entropy",
    ),
    (re.compile(r"stands?(?=_|$)|anew(?=_|$)|is_no_|_told(?=_|$)|_lies_"), "is, contains; again; is not a; given; is in"),
]

NOT_A_NAME = frozenset(
    ["told", "made", "opened", "mended", "asked", "found", "said", "kept", "fresh", "begin", "begun", "avoids", "of"]
)

_LINK_TARGET = re.compile(r"\]\([^)]*\)")
_LONG_SPAN = re.compile(r"`[^`]{60,}`")
_CODE_SPAN = re.compile(r"``[^`]+``|`[^`]*`")
_DIRECTIVE = re.compile(r"#\s*(?:noqa|type:|pragma|fmt:|!)")
_MESSAGE_CALL = re.compile(
    r"(?:Error|Warning|Refused|NotFound|UnknownName|warn|echo|print|log|debug|info|error|warning|fail|problem)$"
)
_MESSAGE_ARGUMENT = frozenset(
    ["help", "description", "title", "epilog", "short_help", "detail", "message", "reason", "summary", "why"]
)


class Hit(NamedTuple):
    """One phrase at one line, and what to write in its place."""

    line: int
    phrase: str
    write: str


def scan(text: str, first_line: int = 1) -> Iterator[Hit]:
    """Find the phrases in a text. Code spans in backticks are not prose."""
    prose = _CODE_SPAN.sub(lambda span: re.sub(r"[^\n]", "~", span.group()), text)
    prose = re.sub(r"[ \t]*\n[ \t]*(?:#:?[ \t]*)?", "\n", prose)
    for pattern, write in PHRASES:
        for match in pattern.finditer(prose):
            yield Hit(first_line + prose.count("\n", 0, match.start()), " ".join(match.group().split()), write)


def scan_markdown(text: str) -> list[Hit]:
    """Find the phrases in a page of Markdown, and lines of prose that are too long."""
    return sorted([*scan(text), *_long_lines(text)])


def _long_lines(text: str) -> Iterator[Hit]:
    """Find lines of prose over the limit. Tables, headings, code, HTML, long spans and targets of links may be longer."""
    fenced = False
    for number, line in enumerate(text.splitlines(), start=1):
        fenced ^= line.startswith("```")
        shown = _LONG_SPAN.sub("``", _LINK_TARGET.sub("]", line))
        if len(shown) > PROSE_WIDTH and not fenced and not line.startswith(("|", "#", "    ", "<", "```")):
            yield Hit(number, f"{line[:40]}...", f"wrap prose at {PROSE_WIDTH} columns; this line has {len(shown)}")


def scan_python(source: str, *, strings: str) -> list[Hit]:
    """Find the phrases in docstrings, comments, names of functions and, as `strings` says, in literals.

    strings  "all": literals with a space; "messages": literals in raises, warnings, prints and help; "none"
    """
    tree = ast.parse(source)
    return sorted({*chain(_comments(source), _docstrings(tree), _names(tree), _literals(tree, strings))})


def _comments(source: str) -> Iterator[Hit]:
    """Scan comments. Comments on consecutive lines are one text, since a phrase may break over a line."""
    block: list[tokenize.TokenInfo] = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT and not _DIRECTIVE.match(token.string):
            if block and token.start[0] != block[-1].start[0] + 1:
                yield from _block(block)
                block = []
            block.append(token)
    if block:
        yield from _block(block)


def _block(block: Sequence[tokenize.TokenInfo]) -> Iterator[Hit]:
    return scan("\n".join(token.string.lstrip("#: ") for token in block), block[0].start[0])


def _docstrings(tree: ast.AST) -> Iterator[Hit]:
    for expression in _docstring_nodes(tree):
        yield from scan(str(expression.value), expression.lineno)


def _docstring_nodes(tree: ast.AST) -> Iterator[ast.Constant]:
    """List docstrings, those after an attribute or a constant included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.value


def _names(tree: ast.AST) -> Iterator[Hit]:
    for node in ast.walk(tree):
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        if node.name.startswith("test_"):
            for pattern, write in TEST_NAMES:
                if pattern.search(node.name):
                    yield Hit(node.lineno, node.name, write)
            if len(node.name) > LONGEST_TEST_NAME:
                yield Hit(node.lineno, node.name, f"at most {LONGEST_TEST_NAME} characters, this has {len(node.name)}")
        elif node.name.strip("_") in NOT_A_NAME:
            yield Hit(node.lineno, f"def {node.name}", "verb + object: load_head, normalize_inputs")


def _literals(tree: ast.AST, strings: str) -> Iterator[Hit]:
    """Scan literals with a space that are not docstrings; a regular expression is not prose."""
    if strings == "none":
        return
    skipped: set[int] = {id(node) for node in _docstring_nodes(tree)}
    for top in [tree] if strings == "all" else _message_nodes(tree):
        for node in ast.walk(top):
            if id(node) in skipped:
                continue
            if isinstance(node, ast.JoinedStr):
                skipped |= {id(part) for part in node.values}
                text = "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                text = node.value
            else:
                continue
            if " " in text and "(?" not in text and r"\b" not in text:
                yield from scan(text, node.lineno)


def _message_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """List what holds messages: raised errors, warnings, printed lines, and arguments such as help=."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise):
            yield node
        elif isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if _MESSAGE_CALL.search(name):
                yield node
            yield from (argument.value for argument in node.keywords if argument.arg in _MESSAGE_ARGUMENT)


def scan_file(path: Path) -> list[Hit]:
    """Find the phrases in one file of the project.

    A vertical's literals are mostly data (terms, templates, label texts), so only its messages count; those of a
    test are its fixtures and expectations, so none count.
    """
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        return scan_markdown(text)
    top = path.resolve().relative_to(ROOT.resolve()).parts[0]
    return scan_python(text, strings={"tests": "none", "domains": "messages"}.get(top, "all"))


def project_files() -> list[Path]:
    """List every document and Python file that the rules hold for."""
    pages = [ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md")]
    pages += sorted((ROOT / "docs").rglob("*.md")) + sorted((ROOT / "domains").glob("*/README.md"))
    return pages + [file for folder in CODE for file in sorted((ROOT / folder).rglob("*.py"))]


def report(path: Path, hits: Sequence[Hit]) -> str:
    """Describe the hits of a file, one a line: path:line: phrase -> what to write."""
    name = path.resolve().relative_to(ROOT.resolve()).as_posix()
    return "\n".join(f"{name}:{hit.line}: {hit.phrase!r} -> {hit.write}" for hit in hits)


@pytest.mark.parametrize("path", project_files(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_file_uses_plain_english(path: Path) -> None:
    hits = scan_file(path)

    assert not hits, "\n" + report(path, hits)


@pytest.mark.parametrize(
    "sentence",
    [
        "The threshold, where there is one.",
        "None where it is not given.",
        "The default where the task is\nclassification.",
        "What stands in the card.",
        "The file lies in the folder.",
        "'abc' is no number.",
        "The label is none of these.",
        "The value that it was told.",
        "The row is read anew and thereby\nchanged.",
        "The rival's trunk, as it comes, with a partner.",
        "Who has no token may read.",
        "Nobody and whoever.",
        "It mends what was mended.",
        "An error, of which less is better.",
        "A model that is asked for one row.",
        "It goes on from the champion.",
        "The point behind the number.",
    ],
)
def test_scanner_finds_dialect(sentence: str) -> None:
    assert list(scan(sentence))


@pytest.mark.parametrize(
    "sentence",
    [
        "None means that no threshold is used.",
        "If there is no token, reading is allowed.",
        "The docs say where data comes from and where the file is stored.",
        "The value is no longer used, and there is no other.",
        "Return `where it is` unchanged if x is None.",
        "A standard, standalone server behind a reverse proxy.",
        "Standing order: compare the baseline with the backbone.",
    ],
)
def test_scanner_passes_plain_sentences(sentence: str) -> None:
    assert list(scan(sentence)) == []


def test_scanner_finds_long_lines_of_prose_only() -> None:
    words = "word " * 25
    page = f"{words}\n\n| {words} |\n\n```text\n{words}\n```\n\n[a link](https://example.org/{'x' * 90})\n"

    assert [hit.line for hit in scan_markdown(page)] == [1]


def test_scanner_reads_comments_docstrings_names_and_messages() -> None:
    source = '''"""A thing.

The file lies in the folder.
"""
import re
# A comment that stands here, where
# there is none.
TRUNKS = "the trunk of a tree"
def told(x):
    raise ValueError(f"{x} is no number")
def test_what_is_kept():
    pass
'''
    lines = [(hit.line, hit.phrase) for hit in scan_python(source, strings="messages")]

    assert lines == [
        (3, "lies"),
        (6, "stands"),
        (6, "where there"),
        (9, "def told"),
        (10, "is no"),
        (11, "test_what_is_kept"),
    ]
    assert (8, "trunk") in [(hit.line, hit.phrase) for hit in scan_python(source, strings="all")]
    assert (10, "is no") not in [(hit.line, hit.phrase) for hit in scan_python(source, strings="none")]


def _main(paths: Sequence[str]) -> int:
    wanted = [Path(path).resolve() for path in paths]
    counts: dict[str, int] = {}
    for file in project_files():
        if wanted and not any(file.resolve().is_relative_to(path) for path in wanted):
            continue
        if hits := scan_file(file):
            print(report(file, hits))
            counts[file.relative_to(ROOT).as_posix()] = len(hits)
    if counts:
        print()
    for name, count in sorted(counts.items(), key=lambda item: -item[1]):
        print(f"{count:5} {name}")
    print(f"{sum(counts.values()):5} hits in {len(counts)} files")
    return bool(counts)


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
