"""Malicious requests to the web demo and to the webcam page: each gets a 4xx and a sentence, and the pages survive.

Table of requests that were survived of those tried, per page, kind and seed:

    python -m densevision.tests.hostile.test_page --seeds 0 1 2 3
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import string
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

SEED = int(os.environ.get("DENSEVISION_HOSTILE_SEED", "0"))
SECONDS = 10
EVERY = 4
"""Of the requests, one in so many is sent by default; `-m slow` sends all."""
GROWTH = 300
"""Megabytes by which the resident memory of this process may grow while all requests are sent."""
API = "/gradio_api"
BOUNDARY = "xxboundaryxx"


@dataclass(frozen=True)
class Attack:
    """A malicious request, as bytes on the wire."""

    page: str
    """The page that it is sent to: web or webcam."""
    kind: str
    name: str
    data: bytes
    may_succeed: bool = False
    """Whether it may also be accepted, as an uploaded file of any name."""


def request(method: str, path: str, body: bytes = b"", *lines: str) -> bytes:
    """A request; `{address}` in it is replaced by the address of the page. Further lines may replace its headers."""
    headers = {"Host": "{address}", "Content-Length": str(len(body)), "Content-Type": "application/json"}
    names = {line.partition(":")[0].strip().lower() for line in lines}
    kept = [f"{name}: {value}" for name, value in headers.items() if name.lower() not in names]
    head = "\r\n".join([f"{method} {path} HTTP/1.1", *kept, "Connection: close", *(line for line in lines if line)])
    return head.encode("latin-1") + b"\r\n\r\n" + body


def part(name: str, value: bytes) -> bytes:
    """A part of a multipart body, with a disposition."""
    return f"--{BOUNDARY}\r\nContent-Disposition: {name}\r\n\r\n".encode("utf-8", "surrogateescape") + value + b"\r\n"


def attacks(seed: int) -> Iterator[Attack]:
    """The requests of a seed."""
    rng = np.random.default_rng(seed)

    def word(length: int = 8) -> str:
        return "".join(rng.choice(list(string.ascii_lowercase), length))

    def number(low: int, high: int) -> int:
        return int(rng.integers(low, high))

    up = "../" * number(2, 12)
    secret = str(rng.choice(["etc/passwd", "proc/self/environ", "etc/hosts", "proc/self/maps"]))
    valid = {"data": ["resnet50_unet_rooms", None], "fn_index": 1, "session_hash": word()}
    call = {"fn_index": number(0, 2), "session_hash": word()}
    nested = number(40, 200_000)
    documents: dict[str, bytes] = {
        "random bytes": rng.bytes(number(1, 2000)),
        "truncated": json.dumps(valid).encode()[: -number(1, 40)],
        "empty": b" ",
        "null": b"null",
        "a list": json.dumps([number(0, 9)] * number(1, 9)).encode(),
        "a number": str(number(0, 10**9)).encode(),
        "a number of many digits": b"1" * number(5_000, 100_000),
        "infinite": json.dumps({**valid, "event_data": "VALUE"}).replace('"VALUE"', f"1e{number(400, 9999)}").encode(),
        "nan": json.dumps({**valid, "data": [float("nan"), None]}).encode(),
        "deep lists": b'{"data": ' + b"[" * nested + b"]" * nested + b"}",
        "deep objects": b'{"a":' * nested + b"1" + b"}" * nested,
        "many values": b'{"data": [' + b"{}," * number(20_000, 1_000_000) + b"{}]}",
        "lone surrogate": json.dumps({**valid, "data": ["\ud800" + word(), None]}).encode(),
        "utf-16": json.dumps(valid).encode("utf-16"),
        "no data": json.dumps(call).encode(),
        "data is an object": json.dumps({**valid, "data": {word(): 1}}).encode(),
        "data is a text": json.dumps({**valid, "data": word()}).encode(),
        "too few inputs": json.dumps({**valid, "data": []}).encode(),
        "too many inputs": json.dumps({**valid, "data": [None] * number(3, 5_000)}).encode(),
        "unknown function": json.dumps({**valid, "fn_index": number(1_000, 2**62)}).encode(),
        "negative function": json.dumps({**valid, "fn_index": -number(1, 99)}).encode(),
        "named function": json.dumps({**valid, "fn_index": word()}).encode(),
        "fractional function": json.dumps({**valid, "fn_index": 0.5 + number(0, 9)}).encode(),
        "function is a list": json.dumps({**valid, "fn_index": [number(0, 3)]}).encode(),
        "no function": json.dumps({**valid, "fn_index": None}).encode(),
        "no session": json.dumps({**valid, "session_hash": None}).encode(),
        "session is a path": json.dumps({**valid, "session_hash": up + secret}).encode(),
        "session is a number": json.dumps({**valid, "session_hash": number(0, 9)}).encode(),
        "long session": json.dumps({**valid, "session_hash": "a" * number(65, 10_000)}).encode(),
        "session with nul": json.dumps({**valid, "session_hash": word() + "\0"}).encode(),
        "file of the server": json.dumps({**valid, "data": [word(), {"path": "/" + secret}]}).encode(),
        "traversal": json.dumps({**valid, "data": [word(), {"path": f"/tmp/{word()}/{up}{secret}"}]}).encode(),
        "url": json.dumps({**valid, "data": [word(), {"path": f"http://{word()}.example/{word()}"}]}).encode(),
        "path with nul": json.dumps({**valid, "data": [word(), {"path": f"/{secret}\0.png"}]}).encode(),
        "path is a number": json.dumps({**valid, "data": [word(), {"path": number(0, 99)}]}).encode(),
        "long path": json.dumps({**valid, "data": [word(), {"path": "/" + "a" * number(5_000, 90_000)}]}).encode(),
    }
    for name, body in documents.items():
        route = "queue/join" if rng.random() < 0.7 else "run/predict"
        yield Attack("web", "json", name, request("POST", f"{API}/{route}", body))
    for name, route, content in (
        ("cancel without fields", "cancel", {}),
        ("cancel with types", "cancel", {"session_hash": number(0, 9), "fn_index": word(), "event_id": []}),
        ("reset with types", "reset", {"event_id": {word(): 1}}),
        ("unknown stream", f"stream/{word(32)}", {**valid}),
        ("unknown stream closed", f"stream/{word(32)}/close", {}),
        ("component server", "component_server", {"data": word(), "component_id": 1, "fn_name": word()}),
    ):
        yield Attack("web", "json", name, request("POST", f"{API}/{route}", json.dumps(content).encode()))

    paths = {
        "file by absolute path": f"{API}/file=/{secret}",
        "file by traversal": f"{API}/file={up}{secret}",
        "file by encoded traversal": f"{API}/file=" + up.replace("/", "%2f") + secret,
        "file with nul": f"{API}/file=/{secret}%00.png",
        "file by url": f"{API}/file=http://127.0.0.1:{number(1, 65535)}/",
        "file by device": f"{API}/file=/dev/{rng.choice(['zero', 'random', 'stdin'])}",
        "long file": f"{API}/file=/{'a' * number(1_000, 30_000)}",
        "invalid utf-8": f"{API}/file=%ff%fe%{number(128, 255):x}",
        "static by traversal": f"/static/{up}{secret}",
        "static by encoded traversal": "/static/" + up.replace("../", "%2e%2e%2f") + secret,
        "static with nul": f"/static/{word()}%00",
        "assets by traversal": f"/assets/{up}{secret}",
        "assets of a long name": f"/assets/{word(number(1, 9)) * 500}",
        "unknown route": f"/{word()}/{word()}",
        "proxy": f"{API}/proxy=http://{word()}.example/",
        "stream of a session": f"{API}/stream/{word()}/0/0/playlist.m3u8",
        "results of no session": f"{API}/queue/data",
        "results of an unknown session": f"{API}/queue/data?session_hash={word()}",
        "results of two sessions": f"{API}/queue/data?session_hash=&session_hash=%00",
        "heartbeat of a path": f"{API}/heartbeat/{'a' * number(65, 9_999)}",
        "progress without upload": f"{API}/upload_progress",
        "progress of an unknown upload": f"{API}/upload_progress?upload_id={word()}",
    }
    for name, path in paths.items():
        yield Attack("web", "path", name, request("GET", path))
    for name, path in (
        ("unknown", f"/{word()}"),
        ("traversal", f"/{up}{secret}"),
        ("an address", f"http://[{word()}/"),
        ("two slashes", f"//[{word()}"),
        ("a key", "/key/q"),
        ("nul", f"/%00{word()}"),
    ):
        yield Attack("webcam", "path", name, request("GET", path))
    for name in (word(), "nn", "%71", "../q", "\xff"):
        yield Attack("webcam", "path", f"key {name!r}", request("POST", f"/key/{name}"))

    join, sent = f"{API}/queue/join", json.dumps(valid).encode()
    for page, method, path, body in (("web", "POST", join, sent), ("webcam", "POST", "/key/q", b"")):
        foreign = f"{word()}.example"
        heads = {
            "foreign origin": request(method, path, body, f"Origin: https://{foreign}"),
            "null origin": request(method, path, body, "Origin: null"),
            "origin of another port": request(method, path, body, f"Origin: http://127.0.0.1:{number(1, 1024)}"),
            "origin with the host as user": request(method, path, body, "Origin: http://{address}@" + foreign),
            "origin with nul": request(method, path, body, "Origin: http://{address}\0"),
            "foreign host": request(method, path, body, f"Host: {foreign}"),
            "foreign host with a port": request("GET", "/", b"", f"Host: {foreign}:80"),
            "address of another machine": request(method, path, body, f"Host: 10.0.0.{number(1, 255)}"),
            "broken host": request(method, path, body, f"Host: [{word()}"),
            "empty host": request(method, path, body, "Host: "),
            "host with the address as user": request(method, path, body, "Host: {address}@" + foreign),
            "no host": b"GET / HTTP/1.0\r\n\r\n",
            "large header": request(method, path, body, f"X-{word()}: {'a' * number(70_000, 300_000)}"),
            "many headers": request("GET", "/", b"", *[f"X-{word(4)}: {word(90)}"] * number(900, 3_000)),
            "header without colon": request(method, path, body, word()),
            "unknown method": request(word().upper(), path, body),
            "trace": request("TRACE", path, body),
            "put": request("PUT", path, body),
            "options": request("OPTIONS", path, b"", f"Origin: https://{foreign}"),
            "unknown version": request("GET", "/", b"").replace(b"HTTP/1.1", f"HTTP/{number(2, 9)}.{word(2)}".encode()),
            "no http": rng.bytes(number(20, 400)).replace(b"\n", b" ") + b"\r\n\r\n",
            "tls": b"\x16\x03\x01" + rng.bytes(number(50, 500)).replace(b"\n", b" ") + b"\r\n\r\n",
        }  # fmt: skip
        for name, data in heads.items():
            yield Attack(page, "header", name, data)
    for name, line in (
        ("length is a text", f"Content-Length: {word()}"),
        ("length is negative", f"Content-Length: -{number(1, 99)}"),
        ("length of many digits", f"Content-Length: {'9' * number(19, 4_000)}"),
        ("length beyond the limit", f"Content-Length: {number(2**24, 2**40)}"),
        ("chunked", "Content-Length: 4\r\nTransfer-Encoding: chunked"),
        ("foreign encoding", f"Content-Length: 4\r\nTransfer-Encoding: {word()}"),
    ):
        yield Attack("web", "header", name, request("POST", join, sent, line))

    upload, form = f"{API}/upload", f"Content-Type: multipart/form-data; boundary={BOUNDARY}"
    end = f"--{BOUNDARY}--\r\n".encode()
    intact = part('form-data; name="files"; filename="a.png"', rng.bytes(number(1, 99))) + end
    bodies = {
        "no form": (intact, "Content-Type: application/json"),
        "no boundary": (intact, "Content-Type: multipart/form-data"),
        "another boundary": (intact, f"Content-Type: multipart/form-data; boundary={word()}"),
        "a long boundary": (intact, f"Content-Type: multipart/form-data; boundary={'a' * number(300, 30_000)}"),
        "random bytes": (rng.bytes(number(1, 5_000)), form),
        "no name": (part(f'form-data; filename="{word()}"', b"x") + end, form),
        "no disposition": (f"--{BOUNDARY}\r\n\r\nx\r\n".encode() + end, form),
        "a field": (part('form-data; name="files"', rng.bytes(99)) + end, form),
        "a large head": (part(f'form-data; name="{"a" * number(9_000, 99_000)}"', b"x") + end, form),
        "many files": (part('form-data; name="files"; filename="a"', b"") * number(20, 2_000) + end, form),
        "many fields": (part('form-data; name="a"', b"") * number(20, 2_000) + end, form),
        "too large a file": (part('form-data; name="files"; filename="a"', bytes(number(3, 7) * 2**20)) + end, form),
        "too large": (bytes(number(9, 12) * 2**20), form),
        "unknown charset": (intact, f"{form}; charset={word()}"),
    }
    for name, (body, line) in bodies.items():
        yield Attack("web", "upload", name, request("POST", upload, body, line), may_succeed=name == "unknown charset")
    for name in (
        up + secret,
        f"/{secret}",
        f"{word()}\0.png",
        "a" * number(300, 3_000),
        "..",
        "\\..\\" + word(),
        "\x1b[2J",
    ):
        body = part(f'form-data; name="files"; filename="{name}"', b"x") + end
        yield Attack("web", "upload", f"file {name[:20]!r}", request("POST", upload, body, form), may_succeed=True)


@contextmanager
def pages() -> Iterator[dict[str, str]]:
    """The address of each page, served by this process."""
    from densevision.apps.live.mjpeg_server import MjpegServer
    from densevision.apps.web.checkpoints import checkpoint_entries
    from densevision.apps.web.server import serve
    from densevision.apps.web.uploads import Limits

    entries = {"depth": checkpoint_entries((), "cpu", "off")["depth"]}
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    webcam = MjpegServer(port=0)
    try:
        with serve(entries, Limits(2**21, 4_000_000), port=port) as address:
            yield {"web": address.removeprefix("http://"), "webcam": webcam.url.removeprefix("http://").strip("/")}
    finally:
        webcam.close()


def send(address: str, data: bytes) -> bytes:
    """Send a request; returns the response, at most a megabyte. A server may close before all is sent."""
    host, port = address.split(":")
    received = b""
    with socket.create_connection((host, int(port)), SECONDS) as raw:
        sender = threading.Thread(target=_send_all, args=(raw, data.replace(b"{address}", address.encode())))
        sender.start()
        deadline = time.monotonic() + SECONDS
        try:
            while len(received) < 2**20 and time.monotonic() < deadline:
                piece = raw.recv(2**16)
                if not piece:
                    break
                received += piece
        except OSError:  # reset, or nothing for some seconds
            pass
        raw.close()
        sender.join()
    return received


def _send_all(raw: socket.socket, data: bytes) -> None:
    with suppress(OSError):
        raw.sendall(data)


def fault(attack: Attack, addresses: dict[str, str]) -> str | None:
    """What a page did wrong with a request; None if it survived."""
    started = time.monotonic()
    response = send(addresses[attack.page], attack.data)
    seconds = time.monotonic() - started
    head, _, body = response.partition(b"\r\n\r\n")
    status = head[9:12].decode("latin-1")
    if seconds > SECONDS:
        return f"{seconds:.0f} s"
    if attack.may_succeed and status == "200":
        stored = Path(json.loads(body)[0])
        inside = stored.parent.parent.name.startswith("densevision-web-") and stored.name not in ("", ".", "..")
        return None if inside else f"stored as {stored}"
    if not status.startswith("4"):
        return f"{response[:200]!r}"
    # An error in the first line of a request gets its response from the HTTP parser alone.
    if attack.kind != "header" and (b"nosniff" not in head or b"ontent-" not in head):
        return f"no headers: {head!r}"
    if len(body) > 300 or any(leak in body for leak in (b"Traceback", b"site-packages", b"root:", b"densevision-web-")):
        return f"{body[:300]!r}"
    return None


def alive(addresses: dict[str, str]) -> bool:
    """Whether both pages are displayed."""
    return all(send(address, request("GET", "/"))[9:12] == b"200" for address in addresses.values())


def resident() -> float:
    """Resident memory of this process in MB; 0 where it is not known."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    except OSError:
        return 0.0


def run_all(seed: int, every: int = 1) -> tuple[dict[Attack, str | None], float]:
    """Send the requests of a seed, or one in `every`; returns their faults, and by how many MB the memory grew."""
    with pages() as addresses:
        assert alive(addresses)
        before = resident()
        faults = {attack: fault(attack, addresses) for attack in list(attacks(seed))[::every]}
        assert alive(addresses)
        return faults, resident() - before


def check(every: int) -> None:
    pytest.importorskip("gradio", reason='gradio is not installed: pip install "gradio>=6"')
    faults, growth = run_all(SEED, every)
    assert not {(attack.page, attack.kind, attack.name): found for attack, found in faults.items() if found}
    assert growth < GROWTH


def test_the_requests_are_many_and_differ_between_seeds():
    first, second = ({attack.data for attack in attacks(seed)} for seed in (SEED, SEED + 1))
    assert len(first) > 100 and len(first - second) > 60


def test_sample_of_hostile_requests():
    check(EVERY)


@pytest.mark.slow
def test_all_hostile_requests():
    check(1)


def main() -> None:
    """Send every request of every seed, and print a table each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    for seed in parser.parse_args().seeds:
        faults, growth = run_all(seed)
        tried = Counter((attack.page, attack.kind) for attack in faults)
        survived = Counter((attack.page, attack.kind) for attack, found in faults.items() if found is None)
        print(f"seed {seed}")
        for (page, kind), count in sorted(tried.items()):
            print(f"{page:8}{kind:8}{survived[page, kind]:4} of {count:3}")
        print(f"{'all':16}{sum(survived.values()):4} of {len(faults):3}; memory grew by {growth:.0f} MB")
        for attack, found in faults.items():
            if found:
                print(f"  {attack.page}, {attack.kind}, {attack.name}: {found}")
        print(flush=True)


if __name__ == "__main__":
    main()
