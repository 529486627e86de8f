"""Hub: a small server that speaks the Hugging Face hub's protocol, as ``huggingface_hub`` calls it.

Repositories are kept in memory, as commits of whole trees. Large files go the way of Git LFS. The token ``writes`` may
write, ``reads`` may not, and nobody needs one to read.
"""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

Tree = dict[str, bytes]


@dataclass
class Hub:
    """What the server holds: trees by repository and commit, names of commits, LFS objects, and what was asked."""

    url: str = ""
    trees: dict[str, dict[str, Tree]] = field(default_factory=dict)
    refs: dict[str, dict[str, str]] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    fails: int = 0
    """A status to answer everything with."""

    def create(self, repository: str, tree: Tree | None = None) -> None:
        """Make a repository, with a first commit of ``tree``."""
        self.trees[repository], self.refs[repository] = {}, {}
        self.commit(repository, tree or {".gitattributes": b"*.safetensors filter=lfs\n"})

    def commit(self, repository: str, tree: Tree) -> str:
        """Add a commit to ``main`` and return its name."""
        told = json.dumps([self.refs[repository].get("main"), sorted((k, _sha1(v)) for k, v in tree.items())])
        name = _sha1(told.encode())
        self.trees[repository][name] = dict(tree)
        self.refs[repository]["main"] = name
        return name

    def at(self, repository: str, revision: str) -> tuple[str, Tree] | None:
        """Return a commit's name and tree, by branch, tag or name."""
        name = self.refs[repository].get(revision, revision)
        tree = self.trees[repository].get(name)
        return None if tree is None else (name, tree)


@contextmanager
def serving() -> Iterator[Hub]:
    """Serve an empty hub on a free port of this machine."""
    hub = Hub()

    class Handler(_Handler):
        state = hub

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=10)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: Hub

    def log_message(self, *args: Any) -> None:
        pass

    def _serve(self) -> None:
        path = unquote(urlsplit(self.path).path)
        body = self._body()
        self.state.asked.append(f"{self.command} {path}")
        if self.state.fails:
            return self._send(self.state.fails, {"error": "not today"})
        for method, pattern, name in _ROUTES:
            if (found := re.fullmatch(pattern, path)) and self.command in method:
                return getattr(self, name)(body, **found.groupdict())
        self._send(404, {"error": f"no route {self.command} {path}"})

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    do_GET = do_HEAD = do_POST = do_PUT = _serve

    def _send(self, status: int, content: Any, headers: dict[str, str] | None = None) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _may_write(self) -> bool:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token == "writes":
            return True
        status = 403 if token == "reads" else 401
        self._send(status, {"error": "no"})
        return False

    def _at(self, id: str, revision: str = "main") -> tuple[str, Tree] | None:
        if id not in self.state.trees:
            self._send(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
            return None
        found = self.state.at(id, revision)
        if found is None:
            self._send(404, {"error": "Invalid rev id"}, {"X-Error-Code": "RevisionNotFound"})
        return found

    def create(self, body: bytes) -> None:
        asked = json.loads(body)
        if self._may_write():
            id = f"{asked['organization']}/{asked['name']}"
            new = id not in self.state.trees
            if new:
                self.state.create(id)
            self._send(200 if new else 409, {"url": f"{self.state.url}/{id}", "name": id, "error": "it exists"})

    def info(self, body: bytes, id: str, revision: str | None = None) -> None:
        if found := self._at(id, revision or "main"):
            siblings = [{"rfilename": name} for name in sorted(found[1])]
            self._send(200, {"id": id, "modelId": id, "sha": found[0], "private": False, "siblings": siblings})

    def tree(self, body: bytes, id: str, revision: str) -> None:
        if found := self._at(id, revision):
            self._send(200, [_entry(name, content) for name, content in sorted(found[1].items())])

    def yaml(self, body: bytes) -> None:
        self._send(200, {"errors": [], "warnings": []})

    def preupload(self, body: bytes, id: str, revision: str) -> None:
        if self._may_write():
            modes = [
                {"path": file["path"], "uploadMode": _mode(file["path"]), "shouldIgnore": False}
                for file in json.loads(body)["files"]
            ]
            self._send(200, {"files": modes})

    def batch(self, body: bytes, id: str) -> None:
        if self._may_write():
            objects = [
                {**asked, "actions": {"upload": {"href": f"{self.state.url}/lfs/{asked['oid']}"}}}
                if asked["oid"] not in self.state.objects
                else asked
                for asked in json.loads(body)["objects"]
            ]
            self._send(200, {"transfer": "basic", "objects": objects})

    def upload(self, body: bytes, oid: str) -> None:
        assert hashlib.sha256(body).hexdigest() == oid
        self.state.objects[oid] = body
        self._send(200, b"")

    def commit(self, body: bytes, id: str, revision: str) -> None:
        found = self._at(id, revision) if self._may_write() else None
        if found is None:
            return
        tree = dict(found[1])
        for line in body.splitlines():
            operation = json.loads(line)
            value = operation["value"]
            if operation["key"] == "file":
                tree[value["path"]] = base64.b64decode(value["content"])
            elif operation["key"] == "lfsFile":
                tree[value["path"]] = self.state.objects[value["oid"]]
            elif operation["key"] == "deletedFile":
                del tree[value["path"]]
        name = self.state.commit(id, tree) if tree != found[1] else found[0]
        self._send(200, {"commitUrl": f"{self.state.url}/{id}/commit/{name}", "commitOid": name, "hookOutput": ""})

    def tag(self, body: bytes, id: str, revision: str) -> None:
        if self._may_write() and (found := self._at(id, revision)):
            self.state.refs[id][json.loads(body)["tag"]] = found[0]
            self._send(200, {})

    def resolve(self, body: bytes, id: str, revision: str, path: str) -> None:
        if found := self._at(id, revision):
            content = found[1].get(path)
            if content is None:
                return self._send(404, {"error": "Entry not found"}, {"X-Error-Code": "EntryNotFound"})
            etag = _entry(path, content).get("lfs", {}).get("oid") or _sha1(content)
            self._send(200, content, {"X-Repo-Commit": found[0], "ETag": f'"{etag}"'})


_ID = r"(?P<id>[\w.-]+/[\w.-]+)"
_ROUTES = [
    (("POST",), "/api/repos/create", "create"),
    (("POST",), "/api/validate-yaml", "yaml"),
    (("GET",), rf"/api/models/{_ID}(?:/revision/(?P<revision>.+))?", "info"),
    (("GET",), rf"/api/models/{_ID}/tree/(?P<revision>[^/]+)/?", "tree"),
    (("POST",), rf"/api/models/{_ID}/preupload/(?P<revision>.+)", "preupload"),
    (("POST",), rf"/api/models/{_ID}/commit/(?P<revision>.+)", "commit"),
    (("POST",), rf"/api/models/{_ID}/tag/(?P<revision>.+)", "tag"),
    (("POST",), rf"/{_ID}\.git/info/lfs/objects/batch", "batch"),
    (("PUT",), r"/lfs/(?P<oid>\w+)", "upload"),
    (("GET", "HEAD"), rf"/{_ID}/resolve/(?P<revision>[^/]+)/(?P<path>.+)", "resolve"),
]


def _sha1(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


def _mode(path: str) -> str:
    return "lfs" if path.endswith((".safetensors", ".png", ".wav")) else "regular"


def _entry(path: str, content: bytes) -> dict[str, Any]:
    entry = {"type": "file", "path": path, "oid": _sha1(content), "size": len(content)}
    if _mode(path) == "lfs":
        entry["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
    return entry
