"""The server: predictions through Gradio's client, and routes that are blocked."""

from __future__ import annotations

import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import h11
import httpx
import pytest
from PIL import Image

from densevision.errors import UserError

pytest.importorskip("gradio", reason='gradio is not installed: pip install "gradio>=6"')

from gradio_client import Client, handle_file

from densevision.apps.access import Access
from densevision.apps.web import connection
from densevision.apps.web.handlers import describe
from densevision.apps.web.server import serve

CHECKPOINT = "resnet50_unet_rooms"
MARK = {"_type": "gradio.FileData"}
API = "/gradio_api"


def join_queue(address: str, data: list, function: str = "/depth") -> httpx.Response:
    """A request as from a browser, with any data."""
    config = httpx.get(f"{address}/config").json()
    number = next(one["id"] for one in config["dependencies"] if one["api_name"] == function.strip("/"))
    return httpx.post(f"{address}{API}/queue/join", json={"data": data, "fn_index": number, "session_hash": "abc"})


def test_simultaneous_clients_get_their_own_predictions(address, entries, script, tmp_path):
    direct = entries["depth"][0]

    def predict(number: int) -> tuple[str, str]:
        upload = tmp_path / f"{number}.png"
        pixels = script.blobs(number, 0)
        Image.fromarray(pixels).save(upload)
        page = Client(address, verbose=False, download_files=str(tmp_path / f"got-{number}"))
        _, text, files = page.predict(direct.name, handle_file(upload), api_name="/depth")
        assert len(files) == 3
        return text, describe(direct.predictor().predict(pixels))

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(predict, range(4)))
    assert all(text == expected for text, expected in results)
    assert len({text for text, _ in results}) > 1, "the images are too similar to distinguish their predictions"


def test_the_server_opens_no_connections_to_other_hosts(address, script):
    hosts = []
    active = [True]

    def hook(event: str, arguments: tuple) -> None:
        if active and event == "socket.connect" and isinstance(arguments[1], tuple):
            hosts.append(arguments[1][0])

    sys.addaudithook(hook)  # a hook cannot be removed, only deactivated
    try:
        httpx.get(address)
        png = script.encoded(Image.new("RGB", (40, 30)), "PNG")
        assert "m, near is bright" in script.upload_and_predict(address, "depth", CHECKPOINT, "a.png", png)
    finally:
        active.clear()
    assert hosts, "the hook was not called"
    assert set(hosts) <= {"127.0.0.1", "localhost", "::1"}


@pytest.mark.parametrize("name", ["bomb-50000.png", "script.eps", "too-many-bytes.png", "half.png"])
def test_a_hostile_upload_is_an_error_message_and_the_server_survives(address, script, name):
    assert script.upload_and_predict(address, "depth", CHECKPOINT, name, script.hostile_uploads()[name]).endswith(".")
    assert "near is bright" in script.upload_and_predict(
        address, "depth", CHECKPOINT, "1.png", script.hostile_uploads()["one-pixel.png"]
    )


@pytest.mark.parametrize(
    "file",
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
@pytest.mark.parametrize("position", ["image", "checkpoint", "nested"])
def test_requests_cannot_refer_to_files_of_the_server_or_urls(address, script, file, position):
    upload = httpx.post(f"{address}{API}/upload", files={"files": ("a.png", b"x")}).json()[0]
    folder = str(Path(upload).parent)
    if isinstance(file["path"], str):
        file = {**file, "path": file["path"].replace("{folder}", folder)}
    data = {
        "image": [CHECKPOINT, file],
        "checkpoint": [file, None],
        "nested": [[{"a": [file]}], None],
    }
    response = join_queue(address, data[position])
    assert (response.status_code, response.text) == (400, "Images must be uploaded, not linked.")


def test_symbolic_links_in_the_upload_folder_are_not_followed(address):
    upload = Path(httpx.post(f"{address}{API}/upload", files={"files": ("a.png", b"x")}).json()[0])
    link = upload.with_name("link.png")
    link.symlink_to("/etc/passwd")
    try:
        assert join_queue(address, [CHECKPOINT, {"path": str(link), "meta": MARK}]).status_code == 400
        assert httpx.get(f"{address}{API}/file={link}").status_code == 403
        assert httpx.get(f"{address}{API}/file={upload}").content == b"x"
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
def test_other_routes_and_files_are_blocked(address, path):
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), 10) as raw:  # HTTP clients would normalize the path
        raw.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n".encode())
        received = b"".join(iter(lambda: raw.recv(65536), b""))
    assert received.split()[1] in (b"403", b"404"), received[:200]
    assert b"root:" not in received


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
def test_too_large_or_invalid_requests_are_rejected(address, path, body, code):
    response = httpx.post(f"{address}{path}", content=body)
    assert response.status_code == code
    assert "Traceback" not in response.text and len(response.text) < 200


def test_unknown_host_names_are_rejected(address):
    assert httpx.get(address, headers={"Host": "evil.example"}).status_code == 403
    assert httpx.get(address, headers={"Host": "localhost"}).status_code == 200


def test_the_content_security_policy_allows_no_other_hosts(address):
    response = httpx.get(address)
    policy = response.headers["content-security-policy"]
    assert "default-src 'self'" in policy and "http" not in policy
    assert "fonts.googleapis" not in response.text and "fonts.googleapis" not in httpx.get(f"{address}/theme.css").text


@pytest.mark.parametrize(
    "path", ["/", "/config", "/theme.css", "/nowhere", f"{API}/file=/etc/passwd", f"{API}/queue/data"]
)
def test_every_response_has_the_security_headers(address, path):
    headers = httpx.get(f"{address}{path}").headers
    assert headers["x-content-type-options"] == "nosniff" and headers["referrer-policy"] == "no-referrer"
    assert headers["x-frame-options"] == "DENY" and "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "server" not in headers


def test_an_uploaded_page_is_no_page_of_this_server(address):
    upload = httpx.post(f"{address}{API}/upload", files={"files": ("a.html", b"<script>alert(1)</script>")}).json()[0]
    headers = httpx.get(f"{address}{API}/file={upload}").headers
    assert headers["content-security-policy"].startswith("default-src 'none'; sandbox;")
    assert headers["content-disposition"].startswith("attachment")


def test_pages_of_other_sites_can_neither_upload_nor_read(address):
    for origin in ("https://elsewhere.example", "null", "http://localhost:1"):
        upload = httpx.post(f"{address}{API}/upload", files={"files": ("a.png", b"x")}, headers={"Origin": origin})
        assert (upload.status_code, upload.text) == (403, "Requests from pages of other sites are refused.")
        assert httpx.get(f"{address}/config", headers={"Origin": origin}).status_code == 403
    files = {"files": ("a.png", b"x")}
    assert httpx.post(f"{address}{API}/upload", files=files, headers={"Origin": address}).status_code == 200


def test_an_unknown_choice_is_a_sentence_to_the_client(address):
    """A request of the right form with a wrong value fails in the queue."""
    assert join_queue(address, ["no such checkpoint", None]).status_code == 200
    events = httpx.get(f"{address}{API}/queue/data?session_hash=abc", timeout=30).text
    assert '"success":false' in events and "Traceback" not in events


def test_a_password_is_required(script, limits):
    with serve({"depth": []}, limits, Access("127.0.0.1", "correct horse"), script.free_port()) as url:
        refused = httpx.get(url)
        assert refused.status_code == 401 and refused.headers["www-authenticate"].startswith("Basic")
        assert httpx.get(url, auth=("", "wrong horse")).status_code == 401
        assert httpx.get(url, auth=("", "correct horse")).status_code == 200


# Slow clients


def receive_all(raw: socket.socket) -> bytes:
    received = b""
    with suppress(ConnectionResetError):
        while piece := raw.recv(2**16):
            received += piece
    return received


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(connection, "_SECONDS", {h11.IDLE: 0.2, h11.SEND_BODY: 0.2})
    monkeypatch.setattr(connection, "UNREAD_SECONDS", 0.2)


@pytest.mark.parametrize(
    "start",
    [
        b"",
        b"GET / HTTP/1.1\r\nHost: loc",
        b"GET /theme.css HTTP/1.1\r\nHost: localhost\r\n\r\nGET / HTTP/1.1\r\nHo",
        b"POST /gradio_api/queue/join HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{",
        b"POST /gradio_api/upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999\r\n"
        b"Content-Type: multipart/form-data; boundary=b\r\n\r\n--b\r\n",
    ],
    ids=["nothing", "header", "second header", "body", "upload"],
)
def test_clients_that_are_slow_to_send_are_dropped(address, impatient, start):
    with socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])), 10) as raw:
        raw.sendall(start)
        assert b" 500 " not in receive_all(raw)
    assert httpx.get(address).status_code == 200


def test_clients_that_do_not_read_are_dropped(address, impatient):
    length = len(httpx.get(address, headers={"Accept-Encoding": "identity"}).content)
    count = 1 + 2**26 // length  # more than the buffers of both sockets
    with socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])), 10) as raw:
        raw.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * count)
        time.sleep(1)
        assert len(receive_all(raw)) < length * count


def test_everything_is_removed_at_the_end(script, limits):
    with serve({"depth": []}, limits, port=script.free_port()) as url:
        upload = Path(httpx.post(f"{url}{API}/upload", files={"files": ("a.png", b"x")}).json()[0])
        assert upload.exists()
    assert not upload.parent.parent.exists()


def test_analytics_and_sharing_are_off(address):
    config = httpx.get(f"{address}/config").json()
    assert config["analytics_enabled"] is False
    assert not config.get("is_space") and not config.get("share")


def test_a_used_port_is_a_user_error(address, entries, limits):
    port = int(address.rpartition(":")[2])
    with pytest.raises(UserError, match=f":{port}; give another --port"), serve({}, limits, port=port):
        pass


def test_a_task_without_a_checkpoint_has_a_tab_with_a_hint(script, limits):
    with serve({"depth": []}, limits, port=script.free_port()) as url:
        texts = [one["props"].get("value") or "" for one in httpx.get(f"{url}/config").json()["components"]]
    assert any("No checkpoint ships for this task" in str(one) and "densevision train depth" in one for one in texts)


def test_no_stub_file_is_written_into_the_package():
    import densevision.apps.web.components as components

    assert not Path(str(components.__file__)).with_suffix(".pyi").exists()


# The command


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--port 70000", "--port is 70000; it must be from 1 to 65535"),
        ("--max-megapixels 0", "--max-megapixels is 0; it must be above 0"),
        ("--checkpoint missing.safetensors", "no checkpoint 'missing.safetensors'"),
    ],
)
def test_a_user_error_is_one_line(run, options, message):
    assert message in run("web", *options.split(), "--device", "cpu").error


def test_a_missing_gradio_is_an_error_with_the_install_command(run, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert run("web").error.endswith('pip install "gradio>=6".')
