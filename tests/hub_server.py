"""A stand-in for the Hugging Face Hub: those answers of its API that its library and cphloc need."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml

TOKEN = "hf_secretsecretsecret"
LICENCES = {"mit", "apache-2.0", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-sa-4.0", "cc0-1.0", "other"}
PIPELINES = {"image-segmentation", "object-detection", "image-classification", "other"}


@dataclass
class Repository:
    """Commits by their hash, each a mapping of paths to contents; branches and tags by name."""

    private: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=lambda: {"main": ""})
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def main(self) -> str:
        return self.branches["main"]

    def commit(self, files: dict[str, bytes], branch: str = "main") -> str:
        digest = hashlib.sha1(repr((self.branches[branch], sorted(files.items()))).encode()).hexdigest()
        self.commits[digest], self.branches[branch] = files, digest
        return digest

    def find(self, revision: str) -> str | None:
        known = {**self.branches, **self.tags, **{commit: commit for commit in self.commits}}
        return known.get(revision)


@dataclass
class Hub:
    """The state of the server.

    ``corrupt`` is the ending of the paths of which a byte is flipped; ``slow`` stops every answer.
    """

    url: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    stored: dict[str, bytes] = field(default_factory=dict)
    asked: list[tuple[str, str, str, str]] = field(default_factory=list)
    corrupt: str = ""
    slow: bool = False


class _Refused(Exception):
    def __init__(self, status: int, code: str = "", text: str = "") -> None:
        self.status, self.code, self.text = status, code, text


@contextlib.contextmanager
def hub_server() -> Iterator[Hub]:
    """A running stand-in; large files are redirected to another host name, which must not see the token."""
    state, stop = Hub(), threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answered()

        do_HEAD = do_POST = do_PUT = do_DELETE = do_GET

        def _answered(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path = unquote(urlsplit(self.path).path)
            host, token = self.headers.get("Host", ""), self.headers.get("Authorization", "")
            state.asked.append((self.command, host, path, token))
            if state.slow:
                stop.wait(60)
                return
            try:
                status, headers, content = answer(state, self.command, path, token, body)
            except _Refused as refused:
                status, content = refused.status, json.dumps({"error": refused.text}).encode()
                headers = {"X-Error-Code": refused.code, "X-Error-Message": refused.text}
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def log_message(self, *args: Any) -> None:
            """Keep the tests' output clean."""

    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    state.url = f"http://127.0.0.1:{httpd.server_address[1]}"
    yield state
    stop.set()
    httpd.shutdown()
    httpd.server_close()


def answer(state: Hub, method: str, path: str, token: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and content for one request."""
    if path.startswith("/stored/"):
        return 200, {}, _stored(state, method, path.removeprefix("/stored/"), body)
    if path == "/api/validate-yaml":
        return 200, {}, _validated(json.loads(body))
    if path == "/api/repos/create":
        return 200, {}, _created(state, token, json.loads(body))
    if path.endswith(".git/info/lfs/objects/batch"):
        return 200, {"Content-Type": "application/vnd.git-lfs+json"}, _batch(state, json.loads(body))
    owner, name, *rest = path.removeprefix("/api/models/").strip("/").split("/")
    repository = state.repositories.get(f"{owner}/{name}")
    if repository is None or (repository.private and token != f"Bearer {TOKEN}"):
        raise _Refused(401, "RepoNotFound", "Repository not found")
    if rest[:1] == ["resolve"]:
        return _resolved(state, repository, rest[1], "/".join(rest[2:]))
    if method == "GET":
        return 200, {}, json.dumps(_about(f"{owner}/{name}", repository, rest)).encode()
    if token != f"Bearer {TOKEN}":
        raise _Refused(403, "", "Forbidden: pass a token that may write")
    return 200, {}, json.dumps(_written(state, f"{owner}/{name}", method, rest, body)).encode()


def _created(state: Hub, token: str, asked: dict[str, Any]) -> bytes:
    if token != f"Bearer {TOKEN}":
        raise _Refused(401, "", "Invalid username or password.")
    name = f"{asked['organization'] or 'someone'}/{asked['name']}"
    if name in state.repositories:
        raise _Refused(409, "", "You already created this model repo")
    state.repositories[name] = Repository(private=asked.get("visibility") == "private")
    state.repositories[name].commit({".gitattributes": b"*.safetensors filter=lfs\n"})
    return json.dumps({"url": f"{state.url}/{name}"}).encode()


def _about(name: str, repository: Repository, rest: list[str]) -> dict[str, Any]:
    if rest == ["refs"]:
        tags = [{"name": t, "ref": f"refs/tags/{t}", "targetCommit": c} for t, c in repository.tags.items()]
        heads = [{"name": b, "ref": f"refs/heads/{b}", "targetCommit": c} for b, c in repository.branches.items()]
        return {"branches": heads, "converts": [], "tags": tags}
    commit = repository.find(rest[1] if rest else "main")
    if commit is None:
        raise _Refused(404, "RevisionNotFound", f"Invalid rev id: {rest[1]}")
    siblings = [{"rfilename": path} for path in repository.commits[commit]]
    return {"id": name, "sha": commit, "siblings": siblings, "tags": [], "private": repository.private}


def _resolved(state: Hub, repository: Repository, revision: str, path: str) -> tuple[int, dict[str, str], bytes]:
    commit = repository.find(revision)
    if commit is None or path not in repository.commits[commit]:
        raise _Refused(404, "EntryNotFound", "Entry not found")
    content = bytearray(repository.commits[commit][path])
    headers = {"X-Repo-Commit": commit, "ETag": f'"{hashlib.sha1(content).hexdigest()}"'}
    if state.corrupt and path.endswith(state.corrupt):
        content[len(content) // 2] ^= 1
    if path.endswith(".safetensors"):
        digest = hashlib.sha256(content).hexdigest()
        state.stored[digest] = bytes(content)
        return 302, headers | {"Location": f"{state.url.replace('127.0.0.1', 'localhost')}/stored/{digest}"}, b""
    return 200, headers, bytes(content)


def _written(state: Hub, name: str, method: str, rest: list[str], body: bytes) -> dict[str, Any]:
    repository = state.repositories[name]
    if rest[0] == "branch":
        return _branched(repository, method, rest[1], body)
    if rest[0] == "preupload":
        files = json.loads(body)["files"]
        modes = {f["path"]: "lfs" if f["path"].endswith(".safetensors") else "regular" for f in files}
        return {"files": [{"path": path, "uploadMode": mode, "shouldIgnore": False} for path, mode in modes.items()]}
    if rest[0] == "tag":
        tag = json.loads(body)["tag"]
        if tag in repository.tags:
            raise _Refused(409, "", "Tag reference exists already")
        repository.tags[tag] = repository.find(rest[1]) or ""
        return {}
    branch = rest[1]
    files = dict(repository.commits[repository.branches[branch]])
    for line in map(json.loads, body.splitlines()):
        kind, value = line["key"], line["value"]
        if kind == "file":
            files[value["path"]] = base64.b64decode(value["content"])
        elif kind == "lfsFile":
            files[value["path"]] = state.stored[value["oid"]]
        elif kind == "deletedFile":
            del files[value["path"]]
        elif value.get("parentCommit") not in (None, repository.branches[branch]):
            raise _Refused(412, "", "A commit has happened since")
    commit = repository.commit(files, branch)
    return {"commitUrl": f"{state.url}/{name}/commit/{commit}", "commitOid": commit}


def _branched(repository: Repository, method: str, branch: str, body: bytes) -> dict[str, Any]:
    if method == "DELETE":
        if repository.branches.pop(branch, None) is None:
            raise _Refused(404, "", "Reference does not exist")
    elif branch in repository.branches:
        raise _Refused(409, "", "Reference exists already")
    else:
        repository.branches[branch] = json.loads(body)["startingPoint"]
    return {}


def _batch(state: Hub, asked: dict[str, Any]) -> bytes:
    objects = [{**one, "actions": {"upload": {"href": f"{state.url}/stored/{one['oid']}"}}} for one in asked["objects"]]
    return json.dumps({"transfer": "basic", "objects": objects}).encode()


def _stored(state: Hub, method: str, digest: str, body: bytes) -> bytes:
    if method == "PUT":
        assert hashlib.sha256(body).hexdigest() == digest
        state.stored[digest] = body
        return b""
    return state.stored[digest]


def _validated(asked: dict[str, Any]) -> bytes:
    """What the Hub refuses in the metadata of a model card."""
    facts = yaml.safe_load(asked["content"].split("---")[1])
    errors = []
    if facts.get("license") not in LICENCES:
        errors.append(f'"license" must be one of {sorted(LICENCES)}')
    if facts.get("license") == "other" and not facts.get("license_name"):
        errors.append('"license_name" is required')
    if facts.get("pipeline_tag") not in PIPELINES:
        errors.append('"pipeline_tag" must be a valid pipeline')
    for model in facts.get("model-index", []):
        for result in model["results"]:
            values = [result["task"].get("type"), result["dataset"].get("type"), result["dataset"].get("name")]
            values += [value for metric in result["metrics"] for value in (metric.get("type"), metric.get("value"))]
            errors += ['"model-index" lacks a value'] * any(value is None for value in values)
    if errors:
        raise _Refused(400, "", "; ".join(errors))
    return json.dumps({"errors": [], "warnings": []}).encode()
