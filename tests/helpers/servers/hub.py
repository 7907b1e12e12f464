"""A hub on loopback: it answers over HTTP as the Hugging Face hub does what huggingface_hub asks of it.

Large files, as weights are, are answered by a redirect to a store on another host, with the name and the size of the
content in the headers of the redirect; the store answers ranges. Every file here is such a file.
"""

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from huggingface_hub import constants

RESOLVE = re.compile(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)")
INFO = re.compile(r"/api/models/([^/]+/[^/]+?)(?:/revision/([^/]+))?")
STORE = re.compile(r"/store/([0-9a-f]{64})")


class Hub:
    """Repositories with commits and branches, what was asked for, and what shall go wrong.

    ``cuts``: the next so many answers of the store end after half of what they promise. ``damaged``: bytes that the
    store gives in place of those of a checksum.
    """

    def __init__(self) -> None:
        self.commits: dict[str, dict[str, dict[str, bytes]]] = {}
        self.branches: dict[str, dict[str, str]] = {}
        self.asked: list[tuple[str, str, str | None]] = []  # method, path, range
        self.cuts = 0
        self.damaged: dict[str, bytes] = {}
        self.gated: set[str] = set()
        self.url = ""

    def push(self, repository: str, files: dict[str, bytes], branch: str = "main") -> str:
        """Commit these files, and no others, to a branch; the commit."""
        known = self.commits.setdefault(repository, {})
        commit = hashlib.sha1(f"{repository} {len(known)}".encode()).hexdigest()
        known[commit] = files
        self.branches.setdefault(repository, {})[branch] = commit
        return commit

    def at(self, repository: str, revision: str) -> str | None:
        """The commit of a branch or of itself."""
        commit = self.branches[repository].get(revision, revision)
        return commit if commit in self.commits[repository] else None

    def stored(self, checksum: str) -> bytes | None:
        """What the store has under a checksum."""
        for commits in self.commits.values():
            for files in commits.values():
                for content in files.values():
                    if sha256(content) == checksum:
                        return self.damaged.get(checksum, content)
        return None

    def downloads(self) -> list[str | None]:
        """The ranges of what was asked of the store, in order; None for a whole file."""
        return [span for method, path, span in self.asked if method == "GET" and STORE.fullmatch(path)]


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@contextmanager
def serving(hub: Hub) -> Iterator[str]:
    """Serve ``hub`` on loopback while the block runs; its URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub.url
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def connect(monkeypatch, url: str, cache: Path) -> None:
    """What HF_ENDPOINT and HF_HUB_CACHE do, in this process: the library reads them once, when it is imported."""
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_IMPLICIT_TOKEN", True)
    monkeypatch.setattr(constants, "AGENT_HARNESSES_PATH", str(cache / "harnesses.json"))


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def log_message(self, *arguments: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = self.path.partition("?")[0]
        self.hub.asked.append((self.command, path, self.headers.get("Range")))
        if found := STORE.fullmatch(path):
            self._store(found[1])
        elif found := INFO.fullmatch(path):
            self._info(found[1], found[2] or "main")
        elif found := RESOLVE.fullmatch(path):
            self._resolve(*found.groups())
        else:
            self._refuse(404, "NotFound", "Not found")

    def _commit(self, repository: str, revision: str) -> str | None:
        """The commit that is asked for, or an answer as the hub gives it and None."""
        if repository not in self.hub.commits:  # so the hub answers those who are not logged in
            self._refuse(401, "RepoNotFound", "Repository not found")
            return None
        commit = self.hub.at(repository, revision)
        if commit is None:
            self._refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return commit

    def _info(self, repository: str, revision: str) -> None:
        commit = self._commit(repository, revision)
        if commit:
            siblings = [{"rfilename": name} for name in self.hub.commits[repository][commit]]
            body = json.dumps({"_id": "0", "id": repository, "sha": commit, "siblings": siblings}).encode()
            self._send(200, {"Content-Type": "application/json", "Content-Length": str(len(body))}, body)

    def _resolve(self, repository: str, revision: str, name: str) -> None:
        commit = self._commit(repository, revision)
        if commit is None:
            return
        content = self.hub.commits[repository][commit].get(name)
        if content is None:
            self._refuse(404, "EntryNotFound", "Entry not found", {"X-Repo-Commit": commit})
        elif repository in self.hub.gated:
            self._refuse(403, "GatedRepo", f"Access to model {repository} is restricted")
        else:
            checksum = sha256(content)
            headers = {
                "X-Repo-Commit": commit,
                "X-Linked-Size": str(len(content)),
                "X-Linked-ETag": f'"{checksum}"',
                "Location": f"{self.hub.url.replace('127.0.0.1', 'localhost')}/store/{checksum}",
                "Content-Length": "0",
            }
            self._send(302, headers)

    def _store(self, checksum: str) -> None:
        content = self.hub.stored(checksum)
        if content is None:
            self._refuse(404, "NotFound", "Not found")
            return
        headers, status, start = {"ETag": f'"{checksum}"', "Accept-Ranges": "bytes"}, 200, 0
        if span := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")):
            start, status = int(span[1]), 206
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        body = content[start:]
        headers["Content-Length"] = str(len(body))
        if self.hub.cuts:
            self.hub.cuts -= 1
            body = body[: len(body) // 2]
        self._send(status, headers, body)

    def _refuse(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
        more = {"X-Error-Code": code, "X-Error-Message": message, "Content-Length": "0"}
        self._send(status, {**(headers or {}), **more})

    def _send(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)
