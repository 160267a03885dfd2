"""The page as programs meet it: answers through gradio's client, and doors that stay closed."""

from __future__ import annotations

import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from PIL import Image

from densevision.errors import UserError

pytest.importorskip("gradio", reason='gradio is not installed: pip install "gradio>=6"')

from gradio_client import Client, handle_file

from densevision.apps.web.answering import said
from densevision.apps.web.server import serving

MARK = {"_type": "gradio.FileData"}
API = "/gradio_api"


def joined(address: str, data: list, function: str = "/depth") -> httpx.Response:
    """A question as a browser puts it, with anything in the place of the picture."""
    config = httpx.get(f"{address}/config").json()
    number = next(one["id"] for one in config["dependencies"] if one["api_name"] == function.strip("/"))
    return httpx.post(f"{address}{API}/queue/join", json={"data": data, "fn_index": number, "session_hash": "abc"})


def test_several_at_once_each_get_their_own_answer(address, offers, script, tmp_path):
    direct = offers["depth"][0]

    def ask(number: int) -> tuple[str, str]:
        sent = tmp_path / f"{number}.png"
        pixels = script.blobs(number, 0)
        Image.fromarray(pixels).save(sent)
        page = Client(address, verbose=False, download_files=str(tmp_path / f"got-{number}"))
        _, sentence, files = page.predict(direct.name, handle_file(sent), api_name="/depth")
        assert len(files) == 3
        return sentence, said(direct.predictor().predict(pixels))

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(ask, range(4)))
    assert all(came == expected for came, expected in answers)
    assert len({came for came, _ in answers}) > 1, "the pictures differ too little to tell their answers apart"


def test_the_page_reaches_nobody_but_its_visitors(address, script):
    reached = []
    watching = [True]

    def heard(event: str, arguments: tuple) -> None:
        if watching and event == "socket.connect" and isinstance(arguments[1], tuple):
            reached.append(arguments[1][0])

    sys.addaudithook(heard)  # nothing removes a hook; it sleeps afterwards
    try:
        httpx.get(address)
        png = script.encoded(Image.new("RGB", (40, 30)), "PNG")
        assert "m, near is bright" in script.ask_with(address, "depth", "resnet18_unet_rooms", "a.png", png)
    finally:
        watching.clear()
    assert reached, "the hook heard nothing"
    assert set(reached) <= {"127.0.0.1", "localhost", "::1"}


@pytest.mark.parametrize("name", ["bomb-50000.png", "script.eps", "too-many-bytes.png", "half.png"])
def test_a_hostile_upload_is_answered_with_a_sentence_and_the_page_lives(address, script, name):
    checkpoint = "resnet18_unet_rooms"
    assert script.ask_with(address, "depth", checkpoint, name, script.hostile_uploads()[name]).endswith(".")
    assert "near is bright" in script.ask_with(
        address, "depth", checkpoint, "1.png", script.hostile_uploads()["one-pixel.png"]
    )


@pytest.mark.parametrize(
    "named",
    [
        {"path": "/etc/passwd", "meta": MARK},
        {"path": "/etc/passwd"},
        {"path": "/proc/self/environ", "meta": MARK, "is_stream": True},
        {"path": "http://127.0.0.1:1/a.png", "meta": MARK},
        {"path": "HTTPS://example.org/a.png", "url": "https://example.org/a.png", "meta": MARK},
        {"path": "file:///etc/passwd", "meta": MARK},
        {"path": "{folder}/../../etc/passwd", "meta": MARK},
        {"path": "{folder}", "meta": MARK},
        {"path": ["/etc/passwd"], "meta": MARK},
        {"path": 3, "meta": MARK},
        {"path": "/etc/passwd\0.png", "meta": MARK},
    ],
    ids=str,
)
@pytest.mark.parametrize("place", ["picture", "checkpoint", "inside"])
def test_a_question_names_no_file_of_the_server_and_no_address(address, script, named, place):
    sent = httpx.post(f"{address}{API}/upload", files={"files": ("a.png", b"x")}).json()[0]
    folder = str(Path(sent).parent)
    if isinstance(named["path"], str):
        named = {**named, "path": named["path"].replace("{folder}", folder)}
    data = {"picture": ["resnet18_unet_rooms", named], "checkpoint": [named, None], "inside": [[{"a": [named]}], None]}
    answer = joined(address, data[place])
    assert (answer.status_code, answer.text) == (400, "Pictures are uploaded here, not linked.")


def test_a_link_among_the_uploads_leads_nowhere(address):
    sent = Path(httpx.post(f"{address}{API}/upload", files={"files": ("a.png", b"x")}).json()[0])
    link = sent.with_name("link.png")
    link.symlink_to("/etc/passwd")
    try:
        assert joined(address, ["resnet18_unet_rooms", {"path": str(link), "meta": MARK}]).status_code == 400
        assert httpx.get(f"{address}{API}/file={link}").status_code == 403
        assert httpx.get(f"{address}{API}/file={sent}").content == b"x"
    finally:
        link.unlink()


@pytest.mark.parametrize(
    "path",
    [
        "/file=/etc/passwd", "/gradio_api/file=/etc/passwd", "/gradio_api/file=../../../../etc/passwd",
        "/gradio_api/file=%2Fetc%2Fpasswd", "/gradio_api/file=/proc/self/environ", "/gradio_api/file=pyproject.toml",
        "/gradio_api/file=http://127.0.0.1:1/", "/gradio_api/proxy=http://127.0.0.1:1/", "/gradio_api/file/etc/passwd",
        "/static/../../../../../../etc/passwd", "/static/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "/assets/..%2f..%2f..%2f..%2f..%2fetc%2fpasswd", "/monitoring", "/monitoring/summary", "/gradio_api/vibe-code",
        "/gradio_api/deep_link?session_hash=abc", "/gradio_api/runs", "/docs", "/openapi.json", "/gradio_api/mcp/sse",
        "/gradio_api/custom_component/x/client/x/..%2f..%2fetc%2fpasswd", "/svelte/..%2f..%2fetc%2fpasswd",
    ],
)  # fmt: skip
def test_nothing_else_of_the_server_is_read(address, path):
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), 10) as raw:  # clients would tidy the path
        raw.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n".encode())
        said_back = b"".join(iter(lambda: raw.recv(65536), b""))
    assert said_back.split()[1] in (b"403", b"404"), said_back[:200]
    assert b"root:" not in said_back


@pytest.mark.parametrize(
    ("path", "body", "code"),
    [
        (f"{API}/queue/join", b"[" * 100_000, 400),
        (f"{API}/queue/join", b"no JSON", 400),
        (f"{API}/queue/join", b"0" * (2**23 + 1), 413),
        (f"{API}/upload", b"0" * (10 * 2**20), 413),
        (f"{API}/component_server", b"{}", 404),
        (f"{API}/process_recording", b"{}", 404),
        (f"{API}/vibe-edit", b"{}", 404),
        (f"{API}/call/depth", b'{"data": []}', 404),
        ("/login", b"", 404),
    ],
    ids=str,
)
def test_questions_without_measure_or_through_other_doors_are_refused(address, path, body, code):
    answer = httpx.post(f"{address}{path}", content=body)
    assert answer.status_code == code
    assert "Traceback" not in answer.text and len(answer.text) < 200


def test_a_site_that_calls_itself_by_this_machines_address_is_not_let_in(address):
    assert httpx.get(address, headers={"Host": "evil.example"}).status_code == 400
    assert httpx.get(address, headers={"Host": "localhost"}).status_code == 200


def test_browsers_are_told_to_speak_to_nobody_else(address):
    answer = httpx.get(address)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'self'" in policy and "http" not in policy
    assert "fonts.googleapis" not in answer.text and "fonts.googleapis" not in httpx.get(f"{address}/theme.css").text


def test_the_settings_that_speak_to_others_are_off(address):
    config = httpx.get(f"{address}/config").json()
    assert config["analytics_enabled"] is False
    assert not config.get("is_space") and not config.get("share")


def test_a_taken_port_is_a_sentence(address, offers, limits):
    port = int(address.rpartition(":")[2])
    with pytest.raises(UserError, match=f"port {port}: give another --port"), serving({}, limits, port=port):
        pass


def test_a_task_without_a_checkpoint_shows_a_tab_that_says_so(script, limits):
    with serving({"depth": []}, limits, port=script.free_port()) as alone:
        words = [one["props"].get("value") or "" for one in httpx.get(f"{alone}/config").json()["components"]]
    assert any("No checkpoint ships for this task" in str(one) and "densevision train depth" in one for one in words)


def test_no_stub_is_written_beside_the_package():
    import densevision.apps.web.components as components

    assert not Path(str(components.__file__)).with_suffix(".pyi").exists()


# The command


@pytest.mark.parametrize(
    ("options", "answer"),
    [
        ("--port 70000", "--port is 70000; it must lie in 1 to 65535"),
        ("--megapixels 0", "both must be above 0"),
        ("--checkpoint missing.safetensors", "no checkpoint 'missing.safetensors'"),
    ],
)
def test_a_mistake_is_one_line(run, options, answer):
    assert answer in run("web", *options.split(), "--device", "cpu").mistake


def test_a_missing_gradio_is_a_sentence_with_what_to_type(run, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert run("web").mistake.endswith('pip install "gradio>=6".')
