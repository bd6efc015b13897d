from __future__ import annotations

import pytest

from vertical_sdk.errors import RegistryError
from vertical_sdk.registry import Reference, parse_reference


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("triage", Reference("triage")),
        ("medical/icd-chapter", Reference("medical/icd-chapter")),
        ("medical/icd-chapter@3", Reference("medical/icd-chapter", version=3)),
        ("medical/icd-chapter@production", Reference("medical/icd-chapter", alias="production")),
        ("legal/l_1.b@sha256:0123abcd", Reference("legal/l_1.b", digest="0123abcd")),
        ("t@sha256:" + "f" * 64, Reference("t", digest="f" * 64)),
        ("t@a" + "b" * 63, Reference("t", alias="a" + "b" * 63)),
    ],
)
def test_a_reference_is_parsed_and_written_back_unchanged(text: str, expected: Reference) -> None:
    reference = parse_reference(text)

    assert reference == expected
    assert str(reference) == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("a/b/c", "3 parts"),
        ("/etc/passwd", "3 parts"),
        ("/etc", "empty part"),
        ("medical/", "empty part"),
        ("../secrets", "'..'"),
        ("a/..", "'..'"),
        ("a..b", "'..'"),
        (".hidden", "starts with"),
        ("medical/-x", "starts with"),
        ("medical/x.", "ends in"),
        ("Medical/x", "'M'"),
        ("a b", "' '"),
        ("a\\b", "'\\\\'"),
        ("a\n", "'\\n'"),
        ("a\x00", "'\\x00'"),
        ("mediсal/x", "U+0441"),  # a Cyrillic letter that looks like c
        ("medical/x１", "U+FF11"),  # a full-width digit
        ("x" * 65, "65 characters"),
        ("x@", "nothing follows the @"),
        ("x@a@b", "more than one @"),
        ("x@latest", "Write x, which is the newest version"),
        ("x@v3", "Write x@3"),
        ("x@0", "Versions are 1, 2, 3"),
        ("x@007", "Versions are 1, 2, 3"),
        ("x@-1", "not a valid alias"),
        ("x@٣", "U+0663"),  # an Arabic three
        ("x@Production", "'P'"),
        ("x@2nd", "does not start with a letter"),
        ("x@sha256:0123abc", "8 to 64"),
        ("x@sha256:" + "g" * 8, "8 to 64"),
        ("x@sha256:" + "a" * 65, "8 to 64"),
        ("x@sha1:0123abcd", "':'"),
    ],
)
def test_a_malformed_reference_is_refused_with_the_reason(text: str, message: str) -> None:
    with pytest.raises(RegistryError) as raised:
        parse_reference(text)

    assert message in str(raised.value)
