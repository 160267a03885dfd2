"""`densevision weights push` and `pull`, against a server on this machine that speaks the Hub's protocol."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import huggingface_hub
import pytest

from densevision.apps.hub import model_card
from densevision.tasks.checkpoint import read_header
from densevision.tasks.inference import packaged_checkpoint

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(BaseHTTPRequestHandler):
    """Repositories in memory: creation, commits of files in the request, downloads."""

    files: dict[str, dict[str, bytes]]
    requests: list[str]

    def reply(self, content: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.requests.append(self.path)
        reply: dict[str, Any] = {}
        if self.path == "/api/repos/create":
            stated = json.loads(body)
            self.files.setdefault(f"{stated['organization']}/{stated['name']}", {})
            reply = {"url": f"{huggingface_hub.constants.ENDPOINT}/{stated['organization']}/{stated['name']}"}
        elif "/preupload/" in self.path:
            files = [each["path"] for each in json.loads(body)["files"]]
            reply = {"files": [{"path": each, "uploadMode": "regular", "shouldIgnore": False} for each in files]}
        elif "/commit/" in self.path:
            repo = "/".join(self.path.split("/")[3:5])
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.files[repo][line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            reply = {"commitUrl": f"{huggingface_hub.constants.ENDPOINT}/{repo}/commit/{COMMIT}", "commitOid": COMMIT}
        self.reply(json.dumps(reply).encode(), Content_Type="application/json")

    def do_GET(self) -> None:
        owner, name, _, revision, file = self.path.strip("/").split("/")
        content = self.files.get(f"{owner}/{name}", {}).get(file)
        if content is None or revision not in ("main", COMMIT):
            missing = "RepoNotFound" if f"{owner}/{name}" not in self.files else "EntryNotFound"
            self.reply(b"", 404, X_Error_Code=missing)
        else:
            etag = hashlib.sha1(content).hexdigest()
            self.reply(content, X_Repo_Commit=COMMIT, ETag=f'"{etag}"', Accept_Ranges="none")

    do_HEAD = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub of this test, whose cache is empty."""
    handler = type("Handler", (Hub,), {"files": {}, "requests": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)
    template = f"{address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    yield handler
    server.shutdown()
    server.server_close()


def test_a_checkpoint_comes_back_as_it_was_pushed(run, tmp_path, hub, checkpoint):
    pushed = run("weights", "push", checkpoint, "me/two-steps")
    assert pushed.code == 0 and pushed.out.endswith("/me/two-steps.\n"), pushed.err
    assert hub.files["me/two-steps"].keys() == {"model.safetensors", "README.md"}
    pulled = run("weights", "pull", "me/two-steps")
    assert pulled.code == 0, pulled.err
    assert (tmp_path / "two-steps.safetensors").read_bytes() == checkpoint.read_bytes()
    assert "already exists" in run("weights", "pull", "me/two-steps").error


def test_the_card_has_the_hubs_metadata_and_the_facts_of_the_header(checkpoint):
    header = read_header(checkpoint)
    card = model_card(header, "me/two-steps")
    front = re.match(r"---\n(.*?)\n---\n", card, re.DOTALL)
    metadata = huggingface_hub.ModelCard(card).data.to_dict()
    assert front and metadata["pipeline_tag"] == "depth-estimation" and metadata["tags"] == ["densevision", "depth"]
    assert header["data"]["terms"] in card and f"{header['metrics']['abs_rel']:.4g}" in card
    assert "densevision weights pull me/two-steps two-steps.safetensors" in card


def test_the_card_of_a_packaged_checkpoint_is_its_own(run, hub):
    path = packaged_checkpoint("memorability")
    assert run("weights", "push", "memorability", "me/scores").code == 0
    card = hub.files["me/scores"]["README.md"].decode()
    assert path.with_suffix(".md").read_text(encoding="utf-8").strip() in card and card.startswith("---\n")


@pytest.mark.parametrize(
    ("repo", "message"),
    [
        ("me/unknown", "The Hub has no repository 'me/unknown', or it is private: log in"),
        ("me/empty", "'me/empty' has no model.safetensors of this revision"),
        ("me/other", "is a text file .* not weights"),
        ("a/b/c", "'a/b/c' is not the name of a repository: give USER/NAME"),
    ],
)
def test_what_the_hub_refuses_is_one_sentence(run, tmp_path, hub, repo, message):
    hub.files |= {"me/empty": {}, "me/other": {"model.safetensors": b"no tensors"}}
    assert re.search(message, run("weights", "pull", repo).error)
    assert not list(tmp_path.glob("*.safetensors"))


def test_without_a_connection_it_says_so(run, monkeypatch, tmp_path, checkpoint):
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert "The Hub cannot be reached for 'me/two-steps'" in run("weights", "pull", "me/two-steps").error
    assert "The Hub cannot be reached for 'me/two-steps'" in run("weights", "push", checkpoint, "me/two-steps").error
