"""A simulated Hugging Face hub: the part of its HTTP API that the hub's own client uses, with a folder on disk.

It simulates the protocol, not the whole hub: it answers as huggingface_hub expects and as the hub is documented and known to
(412 for a commit whose parent is not the newest, LFS for what .gitattributes or the size says, redirects to another address for
LFS bytes, 404 and 401 with X-Error-Code). It cannot show what the hub does beyond that: Xet storage, rate limits, scans, the delay
of its lists. The unmodified client uses it over a real connection.

    <root>/blobs/<sha256>            bytes
    <root>/<owner>/<name>.json       a repository: private, branches, tags, commits → {path → [sha256, size, lfs]}
"""

from __future__ import annotations

import base64
import contextlib
import fnmatch
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from servers.local_server import serving

TOKEN = "hf_test"
READER = "hf_reader"
"""A token with the right to read and not to write."""
LARGE = 10 * 1024 * 1024
LFS = ("*.safetensors", "*.bin", "*.gz")
PAGE = 2
"""Models on a page of the list, so that there is more than one."""


class Hub:
    """The state of the server, and the requests that it received."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.blobs = root / "blobs"
        self.blobs.mkdir(parents=True)
        self.lock = threading.RLock()
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.cut: int | None = None
        """Bytes of a file after which the next answer breaks off."""
        self.address = ""
        self.storage = ""
        """Where LFS bytes are: another host, as on the hub, so that the client sends no token there."""

    def store_blob(self, content: bytes) -> str:
        sha256 = hashlib.sha256(content).hexdigest()
        (self.blobs / sha256).write_bytes(content)
        return sha256

    def read(self, repo: str) -> dict[str, Any] | None:
        path = self.root / f"{repo}.json"
        return json.loads(path.read_text()) if path.exists() else None

    def write(self, repo: str, state: dict[str, Any]) -> None:
        path = self.root / f"{repo}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(state))

    def create(self, repo: str, *, private: bool) -> None:
        state: dict[str, Any] = {"private": private, "branches": {}, "tags": {}, "commits": {}}
        attributes = "".join(f"{pattern} filter=lfs\n" for pattern in LFS).encode()
        self.commit(state, {".gitattributes": [self.store_blob(attributes), len(attributes), False]}, "initial commit")
        self.write(repo, state)

    def commit(self, state: dict[str, Any], files: dict[str, Any], summary: str) -> str:
        parent = state["branches"].get("main")
        oid = hashlib.sha1(json.dumps([parent, files, summary], sort_keys=True).encode()).hexdigest()
        state["commits"][oid] = {"parent": parent, "files": files, "summary": summary}
        state["branches"]["main"] = oid
        return oid

    def push(self, repo: str, path: str, content: bytes | None) -> str:
        """Add a commit of one file, as a user with git does."""
        with self.lock:
            state = self.read(repo)
            assert state is not None
            files = dict(state["commits"][state["branches"]["main"]]["files"])
            files.pop(path, None)
            if content is not None:
                files[path] = [self.store_blob(content), len(content), False]
            oid = self.commit(state, files, f"push {path}")
            self.write(repo, state)
        return oid


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    hub: Hub

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):
            super().handle()

    def do_GET(self) -> None:
        self.route("GET")

    def do_HEAD(self) -> None:
        self.route("HEAD")

    def do_POST(self) -> None:
        self.route("POST")

    def do_PUT(self) -> None:
        self.route("PUT")

    def do_DELETE(self) -> None:
        self.route("DELETE")

    def route(self, method: str) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0)) if method in {"POST", "PUT"} else b""
        if self.headers.get("Transfer-Encoding") == "chunked":
            self.body = b""
            while size := int(self.rfile.readline(), 16):
                self.body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        url = urlsplit(self.path)
        self.query = parse_qs(url.query)
        with self.hub.lock:
            self.hub.requests.append((method, self.path, {key.lower(): value for key, value in self.headers.items()}))
        for verb, pattern, answer in ROUTES:
            match = re.fullmatch(pattern, url.path)
            if match and verb in {method, "GET" if method == "HEAD" else method}:
                with self.hub.lock:
                    answer(self, *(unquote(part) for part in match.groups()))
                return
        self.fail(404, "no such address")

    @property
    def token(self) -> str:
        return (self.headers.get("Authorization") or "").removeprefix("Bearer ")

    def answer(self, plain: Any, status: int = 200, **headers: str) -> None:
        self.send(json.dumps(plain).encode(), status, **{"Content-Type": "application/json", **headers})

    def send(self, content: bytes, status: int = 200, *, upto: int | None = None, **headers: str) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[:upto])
        if upto is not None:
            self.close_connection = True

    def fail(self, status: int, message: str, code: str = "", **headers: str) -> None:
        more = {"X-Error-Code": code} if code else {}
        self.answer({"error": message}, status, **{"X-Error-Message": message, **more, **headers})

    def repo(self, repo: str, *, write: bool = False) -> dict[str, Any] | None:
        """The repository, if this token may read (or change) it. Otherwise sends the refusal and returns None."""
        state = self.hub.read(repo)
        if self.token not in {TOKEN, READER, ""}:
            self.fail(401, "Invalid credentials in Authorization header")
        elif state is None or (state["private"] and not self.token):
            self.fail(
                404 if self.token else 401,
                "Repository not found" if self.token else "Invalid username or password.",
                "RepoNotFound",
            )
        elif write and self.token != TOKEN:
            self.fail(403, "Forbidden: you must use a write token to upload to a repository")
        else:
            return state
        return None

    def at(self, state: dict[str, Any], revision: str) -> str | None:
        oid = (
            state["branches"].get(revision)
            or state["tags"].get(revision)
            or (revision if revision in state["commits"] else None)
        )
        if oid is None:
            self.fail(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return oid

    def whoami(self) -> None:
        self.answer({"type": "user", "name": "ada"}) if self.token else self.fail(401, "Invalid username or password.")

    def create(self) -> None:
        request = json.loads(self.body)
        repo = f"{request.get('organization') or 'ada'}/{request['name']}"
        if self.token != TOKEN:
            self.fail(401 if not self.token else 403, "You don't have the rights to create a model under this namespace")
        elif self.hub.read(repo) is not None:
            self.answer({"error": "You already created this model repo", "url": f"{self.hub.address}/{repo}"}, 409)
        else:
            self.hub.create(repo, private=request.get("visibility") == "private")
            self.answer({"url": f"{self.hub.address}/{repo}"})

    def models(self) -> None:
        author, skip = self.query["author"][0], int(self.query.get("cursor", ["0"])[0])
        repos = sorted(path.stem for path in (self.hub.root / author).glob("*.json"))
        states = [(name, self.hub.read(f"{author}/{name}") or {}) for name in repos]
        states = [(name, state) for name, state in states if self.token or not state["private"]]
        page = [self.info(f"{author}/{name}", state, state["branches"]["main"]) for name, state in states[skip : skip + PAGE]]
        following = f"{self.hub.address}/api/models?author={author}&full=True&cursor={skip + PAGE}"
        more = {"Link": f'<{following}>; rel="next"'} if len(states) > skip + PAGE else {}
        self.answer(page, **more)

    def info(self, repo: str, state: dict[str, Any], oid: str) -> dict[str, Any]:
        siblings = [{"rfilename": path} for path in sorted(state["commits"][oid]["files"])]
        return {"id": repo, "modelId": repo, "private": state["private"], "sha": oid, "siblings": siblings, "tags": []}

    def model(self, repo: str, revision: str = "main") -> None:
        state = self.repo(repo)
        oid = state and self.at(state, revision)
        if state and oid:
            self.answer(self.info(repo, state, oid))

    def tree(self, repo: str, revision: str) -> None:
        state = self.repo(repo)
        oid = state and self.at(state, revision)
        if state and oid:
            entries = []
            for path, (sha256, size, lfs) in sorted(state["commits"][oid]["files"].items()):
                pointer = {"oid": sha256, "size": size, "pointerSize": 100}
                more = {"lfs": pointer} if lfs else {}
                entries.append({"type": "file", "path": path, "size": size, "oid": self.git_hash(sha256), **more})
            self.answer(entries)

    def refs(self, repo: str) -> None:
        state = self.repo(repo)
        if state:
            listed = {
                kind: [{"name": n, "ref": f"refs/{where}/{n}", "targetCommit": oid} for n, oid in state[kind].items()]
                for kind, where in (("branches", "heads"), ("tags", "tags"))
            }
            self.answer({**listed, "converts": []})

    def set_tag(self, repo: str, revision: str) -> None:
        state = self.repo(repo, write=True)
        oid = state and self.at(state, revision)
        tag = json.loads(self.body)["tag"]
        if state and oid and tag in state["tags"]:
            self.fail(409, "Tag reference exists already")
        elif state and oid:
            state["tags"][tag] = oid
            self.hub.write(repo, state)
            self.answer({})

    def delete_tag(self, repo: str, tag: str) -> None:
        state = self.repo(repo, write=True)
        if state:
            del state["tags"][tag]
            self.hub.write(repo, state)
            self.answer({})

    def validate(self) -> None:
        """Check metadata as the hub does: a warning if there are none, an error for a name that is not a data set of the hub."""
        content = json.loads(self.body)["content"]
        head = re.match(r"---\n(.*?)\n---", content, re.DOTALL)
        if not head:
            self.answer({"errors": [], "warnings": [{"message": "empty or missing yaml metadata in repo card"}]})
            return
        import yaml

        data = yaml.safe_load(head[1]).get("datasets") or []
        errors = [
            {
                "message": f'"datasets[{i}]" with value "{name}" is not valid. If possible, use a dataset id from https://hf.co/datasets.'
            }
            for i, name in enumerate(data)
            if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name)
        ]
        self.answer({"errors": errors, "warnings": []}, 400 if errors else 200)

    def preupload(self, repo: str, revision: str) -> None:
        state = self.repo(repo, write=True)
        oid = state and self.at(state, revision)
        if not state or not oid:
            return
        here = state["commits"][oid]["files"]
        files = []
        for file in json.loads(self.body)["files"]:
            large = file["size"] > LARGE or any(fnmatch.fnmatch(Path(file["path"]).name, pattern) for pattern in LFS)
            known = here.get(file["path"])
            same = None if known is None else known[0] if known[2] else self.git_hash(known[0])
            mode = "lfs" if large else "regular"
            files.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": same})
        self.answer({"files": files})

    def git_hash(self, sha256: str) -> str:
        content = (self.hub.blobs / sha256).read_bytes()
        return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()

    def batch(self, repo: str) -> None:
        if self.repo(repo, write=True) is None:
            return
        objects = []
        for wanted in json.loads(self.body)["objects"]:
            upload = {"href": f"{self.hub.storage}/storage/{wanted['oid']}", "header": {}}
            verify = {"href": f"{self.hub.address}/{repo}.git/info/lfs/objects/verify", "header": {}}
            here = (self.hub.blobs / wanted["oid"]).exists()
            objects.append({**wanted, **({} if here else {"actions": {"upload": upload, "verify": verify}})})
        self.answer({"transfer": "basic", "objects": objects})

    def upload(self, oid: str) -> None:
        if hashlib.sha256(self.body).hexdigest() != oid:
            self.fail(400, "the bytes are not those of the oid")
        else:
            self.hub.store_blob(self.body)
            self.send(b"")

    def verify(self, repo: str) -> None:
        request = json.loads(self.body)
        blob = self.hub.blobs / request["oid"]
        complete = blob.exists() and blob.stat().st_size == request["size"]
        self.answer({}) if complete else self.fail(404, "no such object")

    def do_commit(self, repo: str, revision: str) -> None:
        state = self.repo(repo, write=True)
        if not state:
            return
        newest = state["branches"][revision]
        files, summary = dict(state["commits"][newest]["files"]), ""
        for line in self.body.splitlines():
            item = json.loads(line)
            value, kind = item["value"], item["key"]
            if kind == "header":
                summary = value["summary"]
                if value.get("parentCommit") not in {None, newest}:
                    self.fail(412, "A commit has happened since. Please refresh and try again.")
                    return
            elif kind == "file":
                content = base64.b64decode(value["content"])
                files[value["path"]] = [self.hub.store_blob(content), len(content), False]
            elif kind == "lfsFile":
                if not (self.hub.blobs / value["oid"]).exists():
                    self.fail(400, "lfs object was not uploaded")
                    return
                files[value["path"]] = [value["oid"], value["size"], True]
            elif kind == "deletedFile":
                if value["path"] not in files:
                    self.fail(404, "A file with this name doesn't exist", "EntryNotFound")
                    return
                del files[value["path"]]
        oid = self.hub.commit(state, files, summary)
        self.hub.write(repo, state)
        self.answer({"commitUrl": f"{self.hub.address}/{repo}/commit/{oid}", "commitOid": oid, "success": True})

    def resolve(self, repo: str, revision: str, path: str) -> None:
        state = self.repo(repo)
        oid = state and self.at(state, revision)
        if not state or not oid:
            return
        known = state["commits"][oid]["files"].get(path)
        if known is None:
            self.fail(404, "Entry not found", "EntryNotFound", **{"X-Repo-Commit": oid})
            return
        sha256, size, lfs = known
        if lfs:
            where = f"{self.hub.storage}/storage/{sha256}"
            linked = {"X-Linked-Etag": f'"{sha256}"', "X-Linked-Size": str(size), "Location": where}
            self.send(b"", 302, **{"X-Repo-Commit": oid, **linked})
        else:
            self.file(sha256, **{"X-Repo-Commit": oid, "ETag": f'"{self.git_hash(sha256)}"'})

    def stored(self, oid: str) -> None:
        self.file(oid, ETag=f'"{oid}"')

    def file(self, sha256: str, **headers: str) -> None:
        content, upto = (self.hub.blobs / sha256).read_bytes(), None
        if self.command == "GET":
            upto, self.hub.cut = self.hub.cut, None
        headers["Accept-Ranges"] = "bytes"
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        if wanted:
            first = int(wanted[1])
            headers["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
            self.send(content[first:], 206, upto=upto, **headers)
        else:
            self.send(content, upto=upto, **headers)


REPO = r"([^/]+/[^/]+)"
ROUTES: list[tuple[str, str, Any]] = [
    ("GET", "/api/whoami-v2", Handler.whoami),
    ("POST", "/api/repos/create", Handler.create),
    ("POST", "/api/validate-yaml", Handler.validate),
    ("GET", "/api/models", Handler.models),
    ("GET", f"/api/models/{REPO}", Handler.model),
    ("GET", f"/api/models/{REPO}/revision/([^/]+)", Handler.model),
    ("GET", f"/api/models/{REPO}/tree/([^/]+)", Handler.tree),
    ("GET", f"/api/models/{REPO}/refs", Handler.refs),
    ("POST", f"/api/models/{REPO}/tag/([^/]+)", Handler.set_tag),
    ("DELETE", f"/api/models/{REPO}/tag/([^/]+)", Handler.delete_tag),
    ("POST", f"/api/models/{REPO}/preupload/([^/]+)", Handler.preupload),
    ("POST", f"/api/models/{REPO}/commit/([^/]+)", Handler.do_commit),
    ("POST", r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch", Handler.batch),
    ("POST", r"/([^/]+/[^/]+)\.git/info/lfs/objects/verify", Handler.verify),
    ("PUT", "/storage/([0-9a-f]{64})", Handler.upload),
    ("GET", "/storage/([0-9a-f]{64})", Handler.stored),
    ("GET", f"/{REPO}/resolve/([^/]+)/(.+)", Handler.resolve),
]


@contextlib.contextmanager
def hub_server(root: Path) -> Iterator[Hub]:
    """Serve an empty hub until the block ends."""
    from huggingface_hub import close_session

    hub = Hub(root)
    with serving(type("OwnHandler", (Handler,), {"hub": hub})) as hub.address:
        hub.storage = hub.address.replace("127.0.0.1", "localhost")
        try:
            yield hub
        finally:
            close_session()


def use_hub(patch: pytest.MonkeyPatch, hub: Hub) -> None:
    """Make the hub's client in this process and its children use that server, with a token."""
    from huggingface_hub import constants

    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_DISABLE_IMPLICIT_TOKEN"):
        patch.delenv(name, raising=False)
    patch.setattr(constants, "HF_HUB_OFFLINE", False)
    patch.setenv("HF_ENDPOINT", hub.address)
    patch.setenv("HF_TOKEN", TOKEN)
    patch.setenv("HF_HUB_DISABLE_XET", "1")  # read when the client is imported, so its constant is set too
    patch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    patch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", constants.HF_HUB_DISABLE_TELEMETRY)
    patch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
