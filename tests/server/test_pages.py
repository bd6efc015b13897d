from __future__ import annotations

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from registry.conftest import MakeAdapter, resolve_recipe
from safetensors.numpy import save_file

from vertical_sdk.card import Card, Fingerprint, Parent, SourceRecord, Verdict, write_card
from vertical_sdk.registry import Registry, Version
from vertical_sdk.server.pages import adapter, adapters
from vertical_sdk.server.pages.rendering import TEMPLATES
from vertical_sdk.server.pages.routes import page_routes

EVIL = "<script>alert('x')</script><img src=https://evil.example/x onerror=alert(1)>\"'&amp;"
VOID = {"meta", "link", "input", "br", "img", "hr"}
Publish = Callable[..., Version]


def measured(value: float, low: float, high: float) -> dict[str, float]:
    return {"value": value, "low": low, "high": high}


def results(own: float, text: str = "") -> dict[str, Any]:
    """An evaluation as a card stores it."""
    lead = own - 0.355
    return {
        "rows": 1234,
        "confidence": 0.95,
        "baseline": "tfidf",
        "systems": {
            "adapter": {
                "title": "specialist",
                "metrics": {"macro_f1": measured(own, own - 0.03, own + 0.03), "ece": measured(0.04, 0.02, 0.06)},
            },
            "base": {
                "title": f"general base{text}",
                "metrics": {"macro_f1": measured(0.355, 0.333, 0.377), "ece": measured(0.1, 0.05, 0.2)},
            },
            "tfidf": {"title": "TF-IDF + linear", "metrics": {}, "error": f"it ran out of words{text}"},
        },
        "tests": [{"baseline": "base", "metric": "macro_f1", "difference": measured(lead, lead - 0.043, lead + 0.044), "p_value": 0.0004,
                   "mcnemar_p": 0.031}],
    }  # fmt: skip


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "registry")


@pytest.fixture
def publish(tmp_path: Path, registry: Registry) -> Publish:
    """Publish a tiny adapter, with other weights each time."""
    seeds = iter(range(1000))

    def make(
        name: str = "medical/triage",
        *,
        value: float = 0.91,
        text: str = "",
        passed: bool = True,
        report: str | None = None,
        metrics: dict[str, Any] | None = None,
        tags: dict[str, str] | None = None,
    ) -> Version:
        seed = next(seeds)
        run = tmp_path / f"run-{seed}"
        folder = run / "adapter"
        folder.mkdir(parents=True)
        config = {"peft_type": "LORA", "r": 2, "base_model_name_or_path": f"tiny/base{text}"}
        (folder / "adapter_config.json").write_text(json.dumps(config))
        weights = np.random.default_rng(seed).normal(size=(2, 8)).astype(np.float32)
        save_file({"base_model.model.query.lora_A.weight": weights}, folder / "adapter_model.safetensors")
        (folder / "README.md").write_text(f"# Triage{text}\n")
        if report is not None:
            (run / "report.html").write_text(report)
        metric = {"use": "macro_f1"}
        card = Card(
            name=name,
            task="classification",
            family="encoder",
            base=Fingerprint(name="tiny", architecture="BertModel", weights="a" * 64, tokenizer="b" * 64, vocab_size=10),
            **resolve_recipe(
                name,
                domain=name.split("/", maxsplit=1)[0],
                summary=f"Calls to urgency.{text}",
                evaluate={"metrics": [metric], "gate": {"metric": "macro_f1", "beats": ["base"]}},
            ),
            sources=(SourceRecord(source=f"pypi:rows{text}", sha256="d" * 64, license="MIT"),),
            parent=Parent(reference=f"medical/older@2{text}", weights="e" * 64),
            training={"steps": 12, "trained_parameters": 672022, "note": text or "none"},
            versions={"torch": "2.13"},
            metrics=results(value, text) if metrics is None else metrics,
            gate=Verdict(passed=passed, reasons=(f"0.91 against 0.355{text}",)),
        )
        write_card(folder, card)
        return registry.publish(run, force=not passed, reason=text or ("" if passed else "a pilot"), tags=tags)

    return make


@pytest.fixture
def client(registry: Registry) -> TestClient:
    app = FastAPI()
    app.include_router(page_routes(registry))
    return TestClient(app, follow_redirects=False)


class Page(HTMLParser):
    """Parses a page and collects its elements, text and errors."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.text += " "
        if len(dict(attrs)) != len(attrs):
            self.wrong.append(f"<{tag}> has an attribute twice")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(f"</{tag}> closes what is not open")

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def links(self) -> list[str]:
        return [str(a["href"]) for a in self.all("a") if "href" in a and not str(a["href"]).startswith("#")]


def words(html: str) -> str:
    return " ".join(Page(html).text.split())


def check(html: str) -> Page:
    """Check a page: balanced tags, landmarks and headers, nothing from other sites and no scripts."""
    page = Page(html)
    assert html.startswith("<!DOCTYPE html>")
    assert page.wrong == []
    assert page.open == []
    assert [len(page.all(tag)) for tag in ("main", "header", "h1")] == [1, 1, 1]
    assert re.search("<title>[^<]+</title>", html.partition("</head>")[0])
    assert page.all("html") == [{"lang": "en"}]
    assert {tag for tag, _ in page.elements}.isdisjoint({"script", "style", "iframe", "object", "embed", "base", "img"})
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids))
    for tag, attributes in page.elements:
        assert not [name for name in attributes if name == "style" or name.startswith("on")], tag
        for name in ("href", "src", "action"):
            assert re.match(r"/(?!/)|#|data:,$", attributes.get(name) or "/"), attributes
        for name in ("aria-labelledby", "for"):
            assert attributes.get(name) is None or attributes[name] in ids
    assert all("scope" in a for a in page.all("th"))
    return page


def crawl(client: TestClient, start: str = "/") -> dict[str, str]:
    """Follow all links. Returns path → HTML; every page exists, is complete and has a strict policy."""
    pages: dict[str, str] = {}
    waiting = [start]
    while waiting:
        path = waiting.pop()
        if path in pages:
            continue
        answer = client.get(path, follow_redirects=True)
        assert answer.status_code == 200, path
        pages[path] = answer.text
        if path.endswith("/report"):
            continue
        assert answer.headers["content-security-policy"].startswith("default-src 'none'; style-src 'self';")
        page = check(answer.text)
        (sheet,) = [a["href"] for a in page.all("link") if a["rel"] == "stylesheet"]
        assert client.get(str(sheet)).headers["content-type"].startswith("text/css")
        waiting += page.links()
    return pages


def test_every_link_leads_to_a_complete_page(client: TestClient, publish: Publish, registry: Registry) -> None:
    publish(report="<p>r</p>", tags={"stage": "pilot"})
    publish(value=0.93)
    publish("finance/risk", passed=False)
    solo = publish("solo")
    registry.set_alias("medical/triage", "production", 1, why="better", evidence='{"p": 0.01}')

    pages = crawl(client)

    assert {"/", "/a/medical/triage", "/a/medical/triage@1", "/a/medical/triage@2", "/a/medical/triage@1/report"} <= set(pages)
    assert {"/a/solo", "/a/solo@1", "/a/finance/risk@1", f"/?q=recipe%3D{solo.facts['recipe'][0]}"} <= set(pages)


def test_the_list_describes_each_adapter(client: TestClient, publish: Publish, registry: Registry) -> None:
    publish()
    publish("finance/risk", passed=False, value=0.5)
    registry.set_alias("medical/triage", "production", 1)
    registry.revoke("finance/risk@1", "wrong rows")

    html = client.get("/").text

    rows = [words(row) for row in html.split("<tr>")[2:]]
    assert rows[0].startswith("finance/risk revoked forced finance 1 – classification tiny Macro F1 0.500")
    assert rows[1].startswith("medical/triage medical 1 production classification tiny Macro F1 0.910")


def test_an_empty_registry_has_an_empty_list(client: TestClient) -> None:
    answer = client.get("/")

    assert answer.status_code == 200
    assert "Nothing is published yet." in check(answer.text).text


def test_the_list_is_paged(client: TestClient, publish: Publish, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapters, "ROWS", 2)
    for name in ("a", "b", "c", "d", "e"):
        publish(name)

    seen = []
    path: str | None = "/"
    while path is not None:
        page = check(client.get(path).text)
        seen.append([link for link in page.links() if re.fullmatch("/a/[a-e]", link)])
        path = next((str(a["href"]) for a in page.all("a") if a.get("rel") == "next"), None)

    assert seen == [["/a/a", "/a/b"], ["/a/c", "/a/d"], ["/a/e"]]


def test_a_search_is_paged_over_versions(client: TestClient, publish: Publish, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapters, "ROWS", 2)
    for value in (0.91, 0.5, 0.92, 0.93):
        publish(value=value)

    first = check(client.get("/", params={"q": "macro_f1>0.9 domain=medical"}).text)
    (more,) = [str(a["href"]) for a in first.all("a") if a.get("rel") == "next"]
    second = check(client.get(more).text)

    assert [link for link in first.links() if "@" in link] == ["/a/medical/triage@1", "/a/medical/triage@3"]
    assert [link for link in second.links() if "@" in link] == ["/a/medical/triage@4"]


@pytest.mark.parametrize("text", ["macro_f1 > 0.92", '"macro_f1>0.92" gate=passed', "name=medical/triage  macro_f1>=0.93"])
def test_conditions_may_contain_spaces_and_quotes(client: TestClient, publish: Publish, text: str) -> None:
    publish(value=0.91)
    publish(value=0.93)

    page = check(client.get("/", params={"q": text}).text)

    assert [link for link in page.links() if "@" in link] == ["/a/medical/triage@2"]
    assert page.all("input")[0]["value"] == text


@pytest.mark.parametrize("text", ["domain>3", "macro_f1>", "colour=blue", "macro_f1>0.8 medical/"])
def test_an_invalid_condition_is_explained_on_the_page(client: TestClient, publish: Publish, text: str) -> None:
    publish()

    answer = client.get("/", params={"q": text})

    assert answer.status_code == 400
    page = check(answer.text)
    assert page.all("input")[0]["value"] == text
    assert re.search("is not a condition|can only be compared|needs a number", page.text)


def test_a_search_for_an_unknown_name_suggests_similar_names(client: TestClient, publish: Publish) -> None:
    publish()

    page = check(client.get("/", params={"q": "Triage"}).text)

    assert "Did you mean 'medical/triage'?" in page.text


def test_a_reference_in_the_search_redirects_to_its_version(client: TestClient, publish: Publish, registry: Registry) -> None:
    digest = publish().digest
    registry.set_alias("medical/triage", "production", 1)

    for text in ("medical/triage@production", f"medical/triage@sha256:{digest[:12]}"):
        answer = client.get("/", params={"q": text})
        assert (answer.status_code, answer.headers["location"]) == (303, "/a/medical/triage@1")
    assert client.get("/", params={"q": "medical/triage@9"}).status_code == 404


@pytest.mark.parametrize(
    "path",
    [
        "/a/triage",
        "/a/medical/triage@7",
        "/a/medical/triage@none",
        "/a/medical/triage@1/report",
        "/log/triage",
        "/a/a/b/triage",
    ],
)
def test_a_missing_adapter_or_version_is_an_error_page(
    client: TestClient, publish: Publish, registry: Registry, path: str
) -> None:
    publish()

    answer = client.get(path)

    assert answer.status_code == 404
    assert "triage" in check(answer.text).text
    assert registry.location not in answer.text


def test_a_missing_name_suggests_existing_names(client: TestClient, publish: Publish) -> None:
    publish()

    assert "Did you mean 'medical/triage'?" in check(client.get("/a/medical/triaeg").text).text


def test_texts_of_a_publisher_are_escaped(
    client: TestClient, publish: Publish, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VERTICAL_USER", EVIL)
    publish(text=EVIL, passed=False, tags={"note": EVIL}, report="<p>r</p>")
    registry.set_alias("medical/triage", "production", 1, force=True, why=EVIL, evidence=json.dumps({EVIL: EVIL}))
    registry.revoke("medical/triage@1", EVIL)

    for path in ("/", "/a/medical/triage", "/a/medical/triage@1", "/log/medical/triage"):
        check(client.get(path).text)  # no script, no image, no address of another site
    shown = Page(client.get("/a/medical/triage@1").text).text
    assert shown.count(EVIL) >= 10
    hostile = client.get("/", params={"q": f"domain={EVIL}"})
    assert check(hostile.text).all("input")[0]["value"] == f"domain={EVIL}"
    assert client.get(f"/a/{EVIL.replace('/', '')}").status_code == 404
    check(client.get("/a/%3Cscript%3E@1").text)


def test_an_adapter_shows_its_newest_versions_first(
    client: TestClient, publish: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapter, "VERSIONS", 2)
    for value in (0.71, 0.72, 0.73):
        publish(value=value)

    first = check(client.get("/a/medical/triage").text)
    older = check(client.get("/a/medical/triage?before=2").text)

    assert [link for link in first.links() if "@" in link] == ["/a/medical/triage@3", "/a/medical/triage@2"]
    assert "/a/medical/triage?before=2" in first.links()
    assert [link for link in older.links() if "@" in link] == ["/a/medical/triage@1"]
    assert "0.730 [0.700, 0.760] 0.355 general base" in " ".join(first.text.split())


def test_the_log_shows_authors_changes_and_evidence(
    client: TestClient, publish: Publish, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish()
    publish()
    monkeypatch.setenv("VERTICAL_USER", "maria")
    registry.set_alias("medical/triage", "production", 1, why="the first")
    registry.set_alias("medical/triage", "production", 2, why="better", evidence='{"p": 0.004}')

    shown = words(client.get("/a/medical/triage").text)
    monkeypatch.setattr(adapter, "EVENTS", 3)
    log = check(client.get("/log/medical/triage").text)
    (older,) = [str(a["href"]) for a in log.all("a") if a.get("rel") == "next"]

    assert re.search(r'maria alias production 1 → 2 better Evidence \{ "p": 0\.004 \}', shown)
    assert shown.index("1 → 2") < shown.index("the first")
    assert " ".join(log.text.split()).count("publish") == 1
    assert " ".join(Page(client.get(older).text).text.split()).count("publish") == 1


def test_a_version_shows_results_lineage_and_files(client: TestClient, publish: Publish) -> None:
    version = publish(report="<p>r</p>", tags={"stage": "pilot"})

    shown = words(client.get("/a/medical/triage@1").text)

    assert "On 1,234 rows that the specialist was not trained on (95% intervals)" in shown
    assert "specialist 0.910 [0.880, 0.940] 0.040 [0.020, 0.060]" in shown
    assert "general base 0.355 [0.333, 0.377] 0.100 [0.050, 0.200]" in shown
    assert "TF-IDF + linear not measured: it ran out of words" in shown
    assert "general base Macro F1 +0.555 [+0.512, +0.599] < 0.001 0.031" in shown
    assert "ECE lower is better" in shown
    assert "0.91 against 0.355" in shown
    assert 'VerticalModel.from_registry("medical/triage@1", registry)' in shown
    assert 'AutoModel.from_pretrained("tiny/base")' in shown
    assert f"sha256:{version.digest}" in shown
    for fact in (
        "a" * 64,
        "b" * 64,
        version.facts["recipe"][0],
        "d" * 64,
        "e" * 64,
        "pypi:rows",
        "MIT",
        "672,022",
        "torch 2.13",
        "medical/older@2",
    ):
        assert fact in shown
    assert "summary: Calls to urgency." in shown  # the recipe, as YAML
    assert "Every file is as it was published." in shown
    assert "adapter_model.safetensors" in shown
    assert "# Triage" in shown


@pytest.mark.parametrize(
    "metrics", [{}, {"systems": {"adapter": {"metrics": {"macro_f1": {"value": 0.7}}}}}, {"systems": {"adapter": {}}}]
)
def test_a_card_of_other_software_is_shown_without_its_evaluation(
    client: TestClient, publish: Publish, metrics: dict[str, Any]
) -> None:
    publish(metrics=metrics, passed=False)

    for path in ("/", "/a/medical/triage", "/a/medical/triage@1"):
        answer = client.get(path)
        assert answer.status_code == 200
        check(answer.text)


def test_a_revoked_version_is_shown_with_the_reason(client: TestClient, publish: Publish, registry: Registry) -> None:
    publish()
    registry.revoke("medical/triage@1", "a hospital withdrew its rows")

    for path in ("/a/medical/triage", "/a/medical/triage@1"):
        shown = words(client.get(path).text)
        assert "revoked" in shown
        assert "a hospital withdrew its rows" in shown


@pytest.mark.parametrize("file", ["README.md", "vertical.json", "adapter_model.safetensors"])
def test_a_changed_file_is_named(client: TestClient, publish: Publish, file: str) -> None:
    path = publish().path / file
    path.chmod(0o644)
    path.write_bytes(path.read_bytes() + b" ")

    answer = client.get("/a/medical/triage@1")

    shown = " ".join(check(answer.text).text.split())
    assert "refuses to load" in shown
    assert f"{file} has changed" in shown
    assert "Every file is as it was published." not in shown


def test_a_report_is_served_in_a_sandbox(client: TestClient, publish: Publish) -> None:
    report = "<!DOCTYPE html><style>p { color: red }</style><p>é</p><script>alert(1)</script>"
    publish(report=report)

    answer = client.get("/a/medical/triage@1/report")

    assert answer.text == report
    policy = answer.headers["content-security-policy"].split("; ")
    assert {"default-src 'none'", "sandbox", "style-src 'unsafe-inline'", "img-src data:"} <= set(policy)
    assert not [rule for rule in policy if rule.startswith(("script-src", "connect-src", "sandbox allow"))]
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_changed_report_is_not_served(client: TestClient, publish: Publish) -> None:
    path = publish(report="<p>r</p>").path / "report.html"
    path.chmod(0o644)
    path.write_text("<p>all is well</p>")

    answer = client.get("/a/medical/triage@1/report")

    assert answer.status_code == 500
    assert "report.html has changed" in check(answer.text).text


def test_no_name_takes_the_address_of_another_page(client: TestClient, publish: Publish) -> None:
    names = ["a", "3", "a/report", "log/a", "versions/3", "page.css", "report", "a/a"]
    for name in names:
        publish(name, report=f"report of {name}")

    for name in names:
        assert f"<h1>{name}</h1>" in client.get(f"/a/{name}").text
        assert f"<title>{name}@1</title>" in client.get(f"/a/{name}@1").text
        assert client.get(f"/a/{name}@1/report").text == f"report of {name}"
        assert f"<title>Log of {name}</title>" in client.get(f"/log/{name}").text


def test_an_alias_or_a_digest_redirects_to_its_version(client: TestClient, publish: Publish, registry: Registry) -> None:
    digest = publish().digest
    registry.set_alias("medical/triage", "production", 1)

    for version in ("production", f"sha256:{digest}"):
        answer = client.get(f"/a/medical/triage@{version}")
        assert (answer.status_code, answer.headers["location"]) == (307, "/a/medical/triage@1")


def test_links_work_if_mounted_below_another_path(publish: Publish, registry: Registry) -> None:
    publish()
    inner, outer = FastAPI(), FastAPI()
    inner.include_router(page_routes(registry), prefix="/ui")
    outer.mount("/team", inner)

    pages = crawl(TestClient(outer), "/team/ui/")

    assert "/team/ui/a/medical/triage@1" in pages
    assert all(path.startswith("/team/ui/") for path in pages)


def test_an_error_page_never_contains_the_registry_s_location(client: TestClient, publish: Publish, registry: Registry) -> None:
    version = publish()
    path = version.path / "vertical.json"
    path.chmod(0o644)
    path.unlink()

    for address in ("/a/none", "/a/medical/triage@1", "/a/medical/triage", "/?q=none"):
        assert registry.location not in client.get(address).text


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_enough_contrast_with_its_background(scheme: str) -> None:
    css = (TEMPLATES / "page.css").read_text()
    light, dark = (
        dict(re.findall(r"--([a-z-]+): (#[0-9a-f]+);", block)) for block in re.findall(r":root \{(.*?)\}", css, re.DOTALL)
    )
    colours = light if scheme == "light" else light | dark

    pairs = [*product(("ink", "quiet", "link"), ("back", "soft", "own-soft")), ("good", "back"), ("bad", "back")]
    pairs += [("ink", "bad-soft"), ("bad", "bad-soft"), ("ink", "warn-soft"), ("warn", "warn-soft")]
    for text, background in pairs:
        assert contrast(colours[text], colours[background]) >= 4.5, (text, background)


def contrast(first: str, second: str) -> float:
    """The contrast ratio of WCAG 2."""

    def luminance(colour: str) -> float:
        digits = colour[1:] if len(colour) == 7 else "".join(2 * d for d in colour[1:])
        parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
        red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    dark, bright = sorted((luminance(first), luminance(second)))
    return (bright + 0.05) / (dark + 0.05)


def test_pages_mark_forced_and_ungated_versions(client: TestClient, registry: Registry, make_adapter: MakeAdapter) -> None:
    registry.publish(make_adapter(1, name="legal/notes", verdict=None, gate=False))
    failed = Verdict(passed=False, reasons=("worse",))
    registry.publish(make_adapter(2, name="legal/terms", verdict=failed), force=True, reason="a pilot")

    listed = words(client.get("/").text).replace(" ", "")
    assert "legal/notesungated" in listed
    assert "legal/termsforced" in listed
    assert "Ungated: its recipe has no gate" in words(client.get("/a/legal/notes@1").text)
    assert "Published against its gate (failed): a pilot" in words(client.get("/a/legal/terms@1").text)
