"""A hub on this machine: the part of the Hugging Face Hub's HTTP interface that huggingface_hub calls for models.

Repositories are made and removed, files are sent by preupload, LFS batch and commit, and read by info and resolve (HEAD, GET).
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

TOKEN = "hf_right"


class Hub(ThreadingHTTPServer):
    """repos: {"models/owner/name": {path: content}}; failing: a part of a path whose requests are answered with 500."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.repos, self.blobs, self.private, self.calls, self.failing = {}, {}, set(), [], None
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def commit_of(self, repo: str) -> str:
        files = sorted((name, hashlib.sha1(content).hexdigest()) for name, content in self.repos[repo].items())
        return hashlib.sha1(repr(files).encode()).hexdigest()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, *_) -> None:
        pass

    def answer(self, status: int, content: bytes | dict | list = b"", **headers: str) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def handle_any(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body, path = self.rfile.read(length), unquote(urlsplit(self.path).path)
        self.server.calls.append(f"{self.command} {path}")
        if self.server.failing and self.server.failing in path:
            return self.answer(500, {"error": "broken on purpose"})
        writes = self.command not in ("GET", "HEAD") and not path.startswith("/lfs/")
        if writes and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.answer(401, {"error": "Invalid username or password."})
        for verb, pattern, handle in ROUTES:
            if self.command in verb and (found := re.fullmatch(pattern, path)):
                return handle(self, body, *found.groups())
        self.answer(404, {"error": "no such path"})

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = handle_any

    def create(self, body: bytes) -> None:
        asked = json.loads(body)
        owner = asked.get("organization") or "me"
        repo = f"models/{owner}/{asked['name']}"
        url = {"url": f"{self.server.url}/{owner}/{asked['name']}"}
        if repo in self.server.repos:
            return self.answer(409, url | {"error": "You already created this model repo"})
        self.server.repos[repo] = {".gitattributes": b"*.safetensors filter=lfs\n"}
        if asked.get("private") or asked.get("visibility") == "private":
            self.server.private.add(repo)
        self.answer(200, url)

    def delete(self, body: bytes) -> None:
        asked = json.loads(body)
        self.server.repos.pop(f"models/{asked.get('organization') or 'me'}/{asked['name']}", None)
        self.answer(200, {})

    def whoami(self, body: bytes) -> None:
        self.answer(200, {"name": "me", "type": "user"})

    def validate(self, body: bytes) -> None:
        self.answer(200, {"warnings": [], "errors": []})

    def info(self, body: bytes, kind: str, name: str, revision: str | None) -> None:
        repo = f"{kind}/{name}"
        if repo not in self.server.repos or self.hidden(repo):
            return self.answer(404, {"error": "Repository not found"}, X_Error_Code="RepoNotFound")
        if revision not in (None, "main", self.server.commit_of(repo)):
            return self.answer(404, {"error": "Invalid rev id"}, X_Error_Code="RevisionNotFound")
        siblings = [{"rfilename": path} for path in self.server.repos[repo]]
        self.answer(200, {"id": name, "sha": self.server.commit_of(repo), "siblings": siblings, "private": False})

    def hidden(self, repo: str) -> bool:
        return repo in self.server.private and self.headers.get("Authorization") != f"Bearer {TOKEN}"

    def preupload(self, body: bytes, name: str) -> None:
        asked = json.loads(body)["files"]
        modes = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular",
                "shouldIgnore": False,
            }
            for file in asked
        ]
        self.answer(200, {"files": modes})

    def batch(self, body: bytes, name: str) -> None:
        objects = [
            {**one, "actions": {"upload": {"href": f"{self.server.url}/lfs/{one['oid']}"}}}
            for one in json.loads(body)["objects"]
        ]
        self.answer(200, {"transfer": "basic", "objects": objects})

    def put(self, body: bytes, oid: str) -> None:
        assert hashlib.sha256(body).hexdigest() == oid
        self.server.blobs[oid] = body
        self.answer(200)

    def commit(self, body: bytes, name: str) -> None:
        files = self.server.repos[f"models/{name}"]
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.server.blobs[value["oid"]]
        commit = self.server.commit_of(f"models/{name}")
        self.answer(200, {"commitUrl": f"{self.server.url}/{name}/commit/{commit}", "commitOid": commit})

    def resolve(self, body: bytes, name: str, revision: str, path: str) -> None:
        content = self.server.repos.get(f"models/{name}", {}).get(path)
        if content is None or self.hidden(f"models/{name}"):
            return self.answer(404, {"error": "Entry not found"}, X_Error_Code="EntryNotFound")
        etag = f'"{hashlib.sha1(content).hexdigest()}"'
        self.answer(200, content, ETag=etag, X_Repo_Commit=self.server.commit_of(f"models/{name}"))


NAME = r"([^/]+/[^/]+)"
ROUTES = [
    ("POST", "/api/repos/create", Handler.create),
    ("DELETE", "/api/repos/delete", Handler.delete),
    ("GET", "/api/whoami-v2", Handler.whoami),
    ("POST", "/api/validate-yaml", Handler.validate),
    (("GET",), rf"/api/(models|datasets|spaces)/{NAME}(?:/revision/([^/]+))?", Handler.info),
    ("POST", rf"/api/models/{NAME}/preupload/[^/]+", Handler.preupload),
    ("POST", rf"/{NAME}\.git/info/lfs/objects/batch", Handler.batch),
    ("PUT", r"/lfs/(\w+)", Handler.put),
    ("POST", rf"/api/models/{NAME}/commit/[^/]+", Handler.commit),
    (("GET", "HEAD"), rf"/{NAME}/resolve/([^/]+)/(.+)", Handler.resolve),
]
