"""A hub on this machine that speaks Hugging Face's API as far as models are pushed and pulled."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

TOKEN = "hf_" + "a" * 34


def git(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@dataclass
class Repo:
    """A repository: its commits, each all files by name, and its branches."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    private: bool = False

    def commit(self, branch: str, files: dict[str, bytes]) -> str:
        whole = {**self.commits.get(self.branches.get(branch, ""), {}), **files}
        name = hashlib.sha1(repr((branch, len(self.commits), sorted(whole))).encode()).hexdigest()
        self.commits[name], self.branches[branch] = whole, name
        return name

    def resolve(self, revision: str) -> str | None:
        return self.branches.get(revision) or (revision if revision in self.commits else None)


class LocalHub:
    """``repos`` by name. Faults: ``cut`` breaks off the next transfer of weights half way; ``forged`` are files whose
    content is another than the hub tells; ``sizes`` are sizes that it tells instead; ``down`` answers 500.
    """

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.large: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.cut, self.down = False, False
        self.forged: dict[str, bytes] = {}
        self.sizes: dict[str, int] = {}
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

            def do(self) -> None:
                hub.answer(self)

            do_HEAD = do_GET = do_POST = do_PUT = do

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()
        self.address = f"http://127.0.0.1:{self.server.server_port}"

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        path = unquote(request.path.partition("?")[0])
        self.asked.append(f"{request.command} {path}")
        status, content, headers = self.reply(request, path, body)
        request.send_response(status)
        for key, value in {"Content-Length": str(len(content)), **headers}.items():
            request.send_header(key, value)
        request.end_headers()
        if request.command == "HEAD":
            return
        if self.cut and path.endswith("model.safetensors") and "/resolve/" in path:
            self.cut, content = False, content[: len(content) // 2]
            request.close_connection = True
        request.wfile.write(content)

    def reply(self, request: BaseHTTPRequestHandler, path: str, body: bytes) -> tuple[int, bytes, dict[str, str]]:
        if self.down:
            return 500, b"{}", {}
        if request.command in ("POST", "PUT") and not path.startswith("/upload/") \
                and request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return 401, b"{}", {}
        if path.startswith("/upload/"):
            self.large[path.rpartition("/")[2]] = body
            return 200, b"", {}
        if path == "/api/repos/create":
            told = json.loads(body)
            name = f"{told['organization']}/{told['name']}"
            known, private = name in self.repos, bool(told.get("private")) or told.get("visibility") == "private"
            self.repos.setdefault(name, Repo(private=private)).branches.setdefault("main", "")
            return (409 if known else 200), json.dumps({"url": f"{self.address}/{name}"}).encode(), {}
        if path == "/api/validate-yaml":
            return 200, b'{"errors": [], "warnings": []}', {}
        name = next((one for one in self.repos if one in path), None)
        if name is None:
            return 404, b"{}", {"X-Error-Code": "RepoNotFound"}
        return self.of_repo(request, self.repos[name], name, path.partition(name)[2], body)

    def of_repo(self, request: BaseHTTPRequestHandler, repo: Repo, name: str, rest: str, body: bytes) \
            -> tuple[int, bytes, dict[str, str]]:
        part, _, tail = rest.lstrip("/").partition("/")
        if part == "preupload":
            return 200, json.dumps({"files": [
                {"path": one["path"], "shouldIgnore": False,
                 "uploadMode": "lfs" if one["path"].endswith((".safetensors", ".onnx")) else "regular"}
                for one in json.loads(body)["files"]]}).encode(), {}
        if rest == ".git/info/lfs/objects/batch":
            return 200, json.dumps({"transfer": "basic", "objects": [
                {**one, "actions": {"upload": {"href": f"{self.address}/upload/{one['oid']}"}}}
                for one in json.loads(body)["objects"]]}).encode(), {}
        if part == "branch":
            repo.branches.setdefault(tail, repo.branches["main"])
            return 200, b"{}", {}
        if part == "commit":
            return self.committed(repo, name, tail, body)
        if part == "resolve":
            return self.file(request, repo, *tail.split("/", 1))
        commit = repo.resolve(tail if part == "revision" else "main")
        if commit is None:
            return 404, b"{}", {"X-Error-Code": "RevisionNotFound"}
        return 200, json.dumps({"id": name, "sha": commit, "private": repo.private, "siblings": [
            self.told(one, content) for one, content in repo.commits[commit].items()]}).encode(), {}

    def told(self, name: str, content: bytes) -> dict[str, Any]:
        told: dict[str, Any] = {"rfilename": name, "size": self.sizes.get(name, len(content)), "blobId": git(content)}
        if name.endswith((".safetensors", ".onnx")):
            told["lfs"] = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest(), "pointerSize": 134}
        return told

    def committed(self, repo: Repo, name: str, branch: str, body: bytes) -> tuple[int, bytes, dict[str, str]]:
        files = {}
        for line in map(json.loads, body.decode().splitlines()):
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.large[value["oid"]]
        commit = repo.commit(branch, files)
        return 200, json.dumps({"success": True, "commitOid": commit, "hookOutput": "",
                                "commitUrl": f"{self.address}/{name}/commit/{commit}"}).encode(), {}

    def file(self, request: BaseHTTPRequestHandler, repo: Repo, revision: str, name: str) \
            -> tuple[int, bytes, dict[str, str]]:
        commit = repo.resolve(revision)
        content = repo.commits.get(commit or "", {}).get(name)
        if commit is None or content is None:
            return 404, b"{}", {"X-Error-Code": "EntryNotFound"}
        content, status = self.forged.get(name, content), 200
        headers = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": commit}
        ranged = request.headers.get("Range")
        if ranged is not None:
            start, whole = int(ranged.removeprefix("bytes=").rstrip("-")), len(content)
            content, status = content[start:], 206
            headers["Content-Range"] = f"bytes {start}-{whole - 1}/{whole}"
        return status, content, headers
