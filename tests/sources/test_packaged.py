from __future__ import annotations

import pytest

from vertical_sdk.errors import DigestMismatch, SourceError
from vertical_sdk.paths import file_digest
from vertical_sdk.sources import fetch


def test_a_file_of_a_vertical_is_used_where_it_is() -> None:
    fetched = fetch("package:traffic/scenarios/cities.yaml")

    assert fetched.path.name == "cities.yaml"
    assert fetched.sha256 == file_digest(fetched.path)
    with pytest.raises(DigestMismatch):
        fetch("package:traffic/scenarios/cities.yaml", sha256="0" * 64)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("package:trafic/scenarios/cities.yaml", "Did you mean 'traffic'"),
        ("package:traffic/scenarios/city.yaml", "scenarios/cities.yaml"),
        ("package:traffic", "package:VERTICAL/PATH"),
        ("package:traffic/../medical/data.py", "must be a path inside"),
    ],
)
def test_a_missing_file_is_refused_with_similar_names(source: str, says: str) -> None:
    with pytest.raises(SourceError) as caught:
        fetch(source)

    assert says in str(caught.value)


def test_one_file_has_no_file_inside() -> None:
    with pytest.raises(SourceError, match="Leave 'file' and 'revision' out"):
        fetch("package:traffic/scenarios/cities.yaml", file="x")
