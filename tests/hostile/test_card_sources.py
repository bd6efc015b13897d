"""Sources that only a card names: what `promote` and `evaluate` fetch for a stranger, and what they do not."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import write_csv
from registry.conftest import GATE, resolve_recipe, write_adapter

from vertical_sdk.card import SourceRecord, read_card, write_card
from vertical_sdk.cli import main
from vertical_sdk.errors import DataError, SourceError
from vertical_sdk.paths import file_digest
from vertical_sdk.promotion import promote
from vertical_sdk.registry import Registry
from vertical_sdk.sources import fetch
from vertical_sdk.sources.permission import Permission, _is_public, for_card

ROWS = [("red rash", "a"), ("deep cough", "b")]


class Place:
    """A web server of this machine, which counts requests and may redirect them."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.asked: list[str] = []
        self.to: str | None = None


@contextmanager
def serve_rows() -> Iterator[Place]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            place.asked.append(self.path)
            content = b"text,label\nred rash,a\n"
            self.send_response(302 if place.to else 200)
            self.send_header("Location", place.to) if place.to else None
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    place = Place(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield place
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def publish(registry: Registry, folder: Path, seed: int, source: str, sha256: str = "a" * 64) -> None:
    """Publish an adapter whose card names a source."""
    recipe = resolve_recipe("medical/triage", data={"source": source}, evaluate={"metrics": ["macro_f1"], "gate": GATE})
    card = read_card(write_adapter(folder, seed))
    changes = {**recipe, "sources": (SourceRecord(source=source, sha256=sha256),)}
    write_card(folder, card.model_copy(update=changes))
    registry.publish(folder)


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """A registry with a version in production, trained on a file of this machine."""
    registry = Registry(tmp_path / "registry")
    rows = write_csv(tmp_path / "rows.csv", ROWS)
    publish(registry, tmp_path / "champion", 1, str(rows), file_digest(rows))
    registry.set_alias("medical/triage", "production", 1)
    return registry


def test_promote_does_not_fetch_an_address_that_only_the_challenger_names(registry: Registry, tmp_path: Path) -> None:
    with serve_rows() as place:
        source = f"{place.address}/rows.csv"
        publish(registry, tmp_path / "challenger", 2, source)

        with pytest.raises(
            SourceError, match=r"neither you nor the card of the version in use does.*--allow-source http://127"
        ) as raised:
            promote(registry, "medical/triage@2", "production")
        words = ["registry", "promote", "medical/triage", "--from", "2", "--to", "production", "--registry", registry.location]
        assert main(words) == 4
        assert place.asked == []
        assert source in str(raised.value)
        assert registry.resolve("medical/triage@production").number == 1

        with pytest.raises(DataError, match="all rows have the label 'a'"):  # it was fetched and read
            promote(registry, "medical/triage@2", "production", allow_sources=[source])
        assert place.asked != []


@pytest.mark.parametrize(
    "source", ["file:///etc/hostname", "/etc/hostname", "~/rows.csv", "hf:enemy/rows", "pypi:enemy==1.0", "ftp://127.0.0.1/x"]
)
def test_promote_fetches_no_other_source_of_the_challenger(registry: Registry, tmp_path: Path, source: str) -> None:
    publish(registry, tmp_path / "challenger", 2, source)

    with pytest.raises(SourceError, match="it was not fetched: the card of an adapter names it"):
        promote(registry, "medical/triage@2", "production")


def test_an_address_of_this_machine_is_not_fetched_even_if_the_champion_names_it(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "registry")
    with serve_rows() as place:
        for seed in (1, 2):
            publish(registry, tmp_path / f"adapter-{seed}", seed, f"{place.address}/rows.csv")
        registry.set_alias("medical/triage", "production", 1)

        with pytest.raises(SourceError, match=r"127\.0\.0\.1 is an address of this machine or of a private network"):
            promote(registry, "medical/triage@2", "production")
        assert place.asked == []


def test_evaluate_fetches_no_private_address_and_no_file_that_a_card_names(tmp_path: Path) -> None:
    card = read_card(write_adapter(tmp_path / "adapter"))
    theirs = write_csv(tmp_path / "secret.csv", ROWS)
    with serve_rows() as place, for_card(card):
        for source in (
            f"{place.address}/x.csv",
            f"file://{theirs}",
            str(theirs),
            str(tmp_path),
            "memory://x",
            place.address.replace("127.0.0.1", "localhost"),
        ):
            with pytest.raises(SourceError, match="it was not fetched: the card of an adapter names it"):
                fetch(source)
        assert place.asked == []


def test_a_redirect_to_a_private_address_is_not_followed(tmp_path: Path) -> None:
    card = read_card(write_adapter(tmp_path / "adapter"))
    with serve_rows() as first, serve_rows() as inner:
        first.to = f"{inner.address}/secret"
        source = f"{first.address}/rows.csv"

        with for_card(card, allowed=[source]), pytest.raises(SourceError, match="or of a private network"):
            fetch(source)

        assert first.asked != []
        assert inner.asked == []


def test_honest_sources_are_fetched(tmp_path: Path) -> None:
    """A file of the user with the bytes of the training, the champion's file, and what the user allows."""
    folder = write_adapter(tmp_path / "adapter")
    rows, other = write_csv(tmp_path / "rows.csv", ROWS), write_csv(tmp_path / "other.csv", ROWS[:1])
    card = read_card(folder).model_copy(update={"sources": (SourceRecord(source=str(rows), sha256=file_digest(rows)),)})
    champion = card.model_copy(update=resolve_recipe("medical/triage", data={"source": str(other)}))

    with for_card(card):
        assert fetch(str(rows)).path == rows
    with for_card(card, known=champion):
        assert fetch(str(rows)).path == rows
        assert fetch(str(other)).path == other
    with for_card(card, allowed=[f"file://{other}"]):
        assert fetch(f"file://{other}").path == other
    with serve_rows() as place, for_card(card, allowed=[f"{place.address}/rows.csv"]):
        assert fetch(f"{place.address}/rows.csv").path.read_text().startswith("text,label")
    assert fetch(str(other)).path == other


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("2606:4700::1111", True),
        ("127.0.0.1", False),
        ("169.254.169.254", False),
        ("10.1.2.3", False),
        ("192.168.0.1", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("::1", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("::ffff:127.0.0.1", False),
        ("2002:7f00:1::", False),
        ("64:ff9b::7f00:1", False),
        ("64:ff9b::808:808", True),
        ("::127.0.0.1", False),
        ("fec0::1", False),
    ],
)
def test_only_addresses_of_the_public_network_are_public(address: str, public: bool) -> None:
    assert _is_public(address) is public


def test_a_public_web_address_and_a_cloud_store_may_be_fetched() -> None:
    permission = Permission(known=None, digests=frozenset(), allowed=frozenset())

    for source in (
        "https://example.org/rows.csv",
        "s3://bucket/rows.csv",
        "pypi:rows==1.0",
        "hf:owner/rows",
        "package:medical/x.csv",
    ):
        permission.check(source)
