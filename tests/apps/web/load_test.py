"""Load and abuse test of `densevision web`.

pytest -m slow tests/apps/web/load_test.py                     all tests, in small
python tests/apps/web/load_test.py clients [SECONDS [COUNT]]   concurrent clients; each prediction is compared with a
                                                               direct one
python tests/apps/web/load_test.py hostile [ROUNDS]            malicious uploads, the response to each, and the memory
python tests/apps/web/load_test.py endure [REQUESTS [UPLOADS [ABORTED]]]
                                                               memory over many requests; uploads and aborted ones
                                                               under load, and what of them is left; the headers

All run against a server of their own, started with the command that users type.
"""

from __future__ import annotations

import io
import os
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from PIL import Image

from densevision.apps.web.handlers import STEM, describe
from densevision.tasks.inference import Predictor, load, packaged_checkpoint

TASKS = ("depth", "colorization", "restoration", "pose")
"""Tasks that the clients request in turn, each with one input image."""
LIMITS = ("--max-upload-mb", "2", "--max-megapixels", "4")
DIRECT_LOCK = threading.Lock()
"""Held while a client computes the expected prediction in this process."""


@contextmanager
def server(*options: str) -> Iterator[tuple[str, int]]:
    """Run `densevision web` in a process of its own; yields its address and its process number."""
    program = [sys.executable, "-m", "densevision", "web"]
    command = [*program, "--port", str(free_port()), "--device", "cpu", "--amp", "off", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            words = (word for line in process.stdout for word in line.split())
            yield next(word for word in words if word.startswith("http")), process.pid
        finally:
            process.terminate()
            process.wait(30)


def free_port() -> int:
    """A TCP port that is not in use."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return unused.getsockname()[1]


# Concurrent clients


@dataclass
class Tally:
    """The requests of one client: predictions of its own images, of other images, and requests without a prediction."""

    number: int
    requests: int = 0
    correct: int = 0
    mixed_up: int = 0

    @property
    def lost(self) -> int:
        return self.requests - self.correct - self.mixed_up


def run_clients(seconds: float, count: int) -> list[Tally]:
    """Let clients request predictions for images of their own at the same time, and compare each with a direct one."""
    direct = {task: load(task, "cpu", "off") for task in TASKS}
    tallies = [Tally(number) for number in range(count)]
    with TemporaryDirectory() as folder, server() as (address, _):
        until = time.monotonic() + seconds
        threads = [
            threading.Thread(target=run_client, args=(address, direct, tally, until, Path(folder)), daemon=True)
            for tally in tallies
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(seconds + 120)
    return tallies


def run_client(address: str, direct: dict[str, Predictor], tally: Tally, until: float, folder: Path) -> None:
    """Request predictions until a time of `time.monotonic`, and count them."""
    from gradio_client import Client, handle_file

    # A prediction is lost if none comes within a minute; the default timeout of the client is five seconds.
    downloads, timeout = str(folder / f"received-{tally.number}"), {"timeout": 60}
    page = Client(address, verbose=False, download_files=downloads, httpx_kwargs=timeout)
    while time.monotonic() < until:
        task = TASKS[(tally.number + tally.requests) % len(TASKS)]
        pixels = blobs(tally.number, tally.requests)
        sent = folder / f"sent-{tally.number}-{tally.requests}.png"
        Image.fromarray(pixels).save(sent)
        with DIRECT_LOCK:
            expected = direct[task].predict(pixels)
        tally.requests += 1
        try:
            displayed, text, files = page.predict(
                packaged_checkpoint(task).stem, handle_file(sent), api_name=f"/{task}"
            )
            if is_same(expected, displayed, text, files, folder / f"direct-{tally.number}"):
                tally.correct += 1
            else:
                tally.mixed_up += 1
        except Exception as error:  # whatever fails is a lost prediction, and the client continues
            print(f"client {tally.number}: {type(error).__name__}: {error}", file=sys.stderr)


def blobs(number: int, request: int) -> np.ndarray:
    """An image (H, W, 3) uint8 that differs for every client and request."""
    rng = np.random.default_rng((number, request))
    small = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((160 + 8 * number, 120), Image.Resampling.BICUBIC))


def is_same(expected: Any, displayed: str, text: str, files: list[str], folder: Path) -> bool:
    """Whether a response of the page equals a direct prediction: the image, the text and every file, byte by byte."""
    shutil.rmtree(folder, ignore_errors=True)
    direct = {file.name: file.read_bytes() for file in expected.save(folder, STEM)}
    received = {Path(file).name: Path(file).read_bytes() for file in files}
    with Image.open(displayed) as image:
        same_image = np.array_equal(np.asarray(image.convert("RGB")), expected.to_image())
    return same_image and describe(expected) == text and direct == received


# Malicious uploads


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    """The bytes of an image file of a format."""
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def chunk(name: bytes, body: bytes) -> bytes:
    """A chunk of a PNG file."""
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png_of(width: int, height: int, body: bytes) -> bytes:
    """A grayscale PNG file that declares a size, whatever its body contains."""
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


@cache
def hostile_uploads() -> dict[str, bytes]:
    """Malicious, damaged and unusual files by name; all but two are within the limits of `LIMITS`."""
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (60, 80, 3), dtype=np.uint8))
    frames = [noise.rotate(angle) for angle in (0, 90, 180)]
    intact = encoded(noise, "PNG")
    zeros = zlib.compress(bytes(2**24), 9)
    rotated = Image.Exif()
    rotated[0x0112] = 6
    sixteen = Image.fromarray(rng.integers(0, 65536, (60, 80), dtype=np.uint16))
    return {
        "nothing.png": b"",
        "one-byte.jpg": b"\xff",
        "text.png": b"This is not an image.",
        "page.html.png": b"<html><script>alert(1)</script></html>",
        "drawing.svg": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
        "script.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) (r) file\n%%EOF\n",
        "paper.pdf": b"%PDF-1.4\n1 0 obj<<>>endobj\ntrailer<<>>\n%%EOF\n",
        "archive.zip": b"PK\x03\x04" + bytes(200),
        "pickled.png": b"\x80\x04\x95\x1d\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x8c\x06system\x93\x94.",
        "random.jpg": rng.bytes(5000),
        "half.png": intact[: len(intact) // 2],
        "half.jpg": encoded(noise, "JPEG")[:900],
        "flipped.png": intact[:60] + bytes([intact[60] ^ 255]) + intact[61:],
        "header-alone.png": intact[:33],
        "bomb-50000.png": png_of(50000, 50000, zeros),
        "bomb-4000.png": png_of(4000, 4000, zlib.compress(bytes(4000 * 4001), 9)),
        "claims-2-31.png": png_of(2**31 - 1, 2**31 - 1, b""),
        "no-width.png": png_of(0, 100, b""),
        "bomb.gif": b"GIF89a" + struct.pack("<HH", 65535, 65535) + b"\x80\0\0" + bytes(6) + b",",
        "bomb.bmp": b"BM" + struct.pack("<IHHIIiiHH24x", 54, 0, 0, 54, 40, 99999, 99999, 1, 24),
        "bomb.tiff": encoded(Image.new("1", (12000, 12000)), "TIFF", compression="group4"),
        "text-bomb.png": intact[:33] + chunk(b"zTXt", b"a\0\0" + zeros) + intact[33:],
        "too-many-bytes.png": intact + bytes(3 * 2**20),
        "one-pixel.png": encoded(Image.new("RGB", (1, 1), "red"), "PNG"),
        "20000x10.png": encoded(Image.new("RGB", (20000, 10), "red"), "PNG"),
        "10x20000.jpg": encoded(Image.new("RGB", (10, 20000), "red"), "JPEG"),
        "animated.gif": encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        "animated.webp": encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:]),
        "animated.png": encoded(frames[0], "PNG", save_all=True, append_images=frames[1:]),
        "cmyk.jpg": encoded(noise.convert("CMYK"), "JPEG"),
        "sixteen-bits.png": encoded(sixteen, "PNG"),
        "floats.tiff": encoded(Image.fromarray(np.full((9, 9), np.nan, np.float32)), "TIFF"),
        "palette-and-alpha.png": encoded(noise.convert("RGBA").quantize(16), "PNG", transparency=0),
        "turned.jpg": encoded(noise, "JPEG", exif=rotated),
        "..%2f..%2fetc%2fpasswd.png": intact,
    }  # fmt: skip


def upload_and_predict(address: str, task: str, checkpoint: str, name: str, body: bytes) -> str:
    """Upload a file as a browser does and request a prediction for it; returns the text of the response."""
    import httpx
    from gradio_client import Client

    sent = httpx.post(f"{address}/gradio_api/upload", files={"files": (name, body)}, timeout=60)
    if sent.status_code != 200:
        return f"refused with {sent.status_code}: {sent.text}"
    file = {"path": sent.json()[0], "orig_name": name, "meta": {"_type": "gradio.FileData"}}
    page = Client(address, verbose=False, download_files=False, httpx_kwargs={"timeout": 60})
    try:
        return page.predict(checkpoint, file, api_name=f"/{task}")[1]
    except httpx.HTTPStatusError as refused:
        return f"refused with {refused.response.status_code}: {refused.response.text}"
    finally:
        page.close()


@dataclass
class AbuseReport:
    """What happened under malicious uploads.

    Attributes:
        responses: text of the last round's response by the name of the upload; empty where none came.
        works: whether a prediction for a good image is the same afterwards as before.
        memory: resident memory of the server in MB, before the first and after every round.
    """

    responses: dict[str, str]
    works: bool
    memory: list[float]


def abuse(rounds: int) -> AbuseReport:
    """Send every upload of `hostile_uploads` to a server, several times."""
    checkpoint = packaged_checkpoint("depth").stem
    good = encoded(Image.fromarray(blobs(0, 0)), "PNG")
    responses: dict[str, str] = {}
    with server(*LIMITS) as (address, process):
        first = upload_and_predict(address, "depth", checkpoint, "good.png", good)
        memory = [resident_memory(process)]
        for _ in range(rounds):
            for name, body in hostile_uploads().items():
                responses[name] = upload_and_predict(address, "depth", checkpoint, name, body)
            memory.append(resident_memory(process))
        works = upload_and_predict(address, "depth", checkpoint, "good.png", good) == first
    return AbuseReport(responses, works, memory)


def resident_memory(process: int) -> float:
    """Resident memory of a process in MB."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


# Endurance


@dataclass
class EnduranceReport:
    """What is left of many requests and uploads.

    Attributes:
        slope: growth of the server's resident memory in MiB per 100 requests: a straight line through `memory`.
        memory: resident memory in MiB by the number of requests.
        loaded: resident memory in MiB during the uploads, at most.
        idle: resident memory in MiB before the uploads, and when they were deleted again.
        stored: number of uploaded and aborted files, at most.
        expired: files that are older than the limit afterwards, by at most one pause of the sweeper.
        predictions: predictions during the uploads.
        headers: headers of the page.
    """

    slope: float
    memory: dict[int, float]
    loaded: float
    idle: tuple[float, float]
    stored: int
    expired: list[Path]
    predictions: int
    headers: dict[str, str]


def endure(requests: int, uploads: int, aborted: int, keep_seconds: float = 30) -> EnduranceReport:
    """Request predictions, then upload files and abort uploads while others request predictions."""
    import httpx
    from gradio_client import Client, handle_file

    from densevision.apps.web.sweeper import PAUSE

    checkpoint, name = packaged_checkpoint("depth").stem, f"{keep_seconds / 60}"
    with TemporaryDirectory() as temporary, server("--keep-minutes", name) as (address, process):
        image = Path(temporary) / "image.png"
        Image.fromarray(blobs(0, 0)).save(image)

        def client() -> Client:
            return Client(address, verbose=False, download_files=False, httpx_kwargs={"timeout": 60})

        def predict(page: Client) -> None:
            assert page.predict(checkpoint, handle_file(image), api_name="/depth")[1]

        folder = Path(upload(address, b"x")).parent.parent

        def files() -> set[Path]:
            # Unlike Path.rglob, os.walk passes over folders that are deleted meanwhile.
            return {Path(parent, name) for parent, _, names in os.walk(folder) for name in names}

        # The page's own files, such as its examples, are kept.
        own = {path for path in files() if path.stat().st_size > 1}

        def is_expired(path: Path) -> bool:
            with suppress(FileNotFoundError):
                return time.time() - path.stat().st_ctime > keep_seconds + 2 * PAUSE
            return False

        page, memory = client(), {}
        for _ in range(20):  # loads the model
            predict(page)
        for number in range(requests):
            if number % 25 == 0:
                memory[number] = resident_memory(process)
            predict(page)
        memory[requests] = resident_memory(process)
        slope = 100 * float(np.polyfit(list(memory), list(memory.values()), 1)[0])

        before, stopped, predictions = resident_memory(process), threading.Event(), []

        def load() -> None:
            page = client()
            while not stopped.is_set():
                predict(page)
                predictions.append(1)

        loads = [threading.Thread(target=load) for _ in range(2)]
        for thread in loads:
            thread.start()
        print(f"{requests} requests: {slope:.2f} MiB per 100; now the uploads", file=sys.stderr)
        rng, stored, loaded = np.random.default_rng(0), 0, before
        with httpx.Client(base_url=address, timeout=60) as connection:
            for number in range(uploads):
                upload("", rng.bytes(50_000), connection)
                if number % max(1, uploads // aborted) == 0:
                    abort_upload(address, rng.bytes(500_000))
                if number % 20 == 0 or number == uploads - 1:
                    stored = max(stored, len(files() - own))
                    loaded = max(loaded, resident_memory(process))
        uploaded = time.time()
        time.sleep(keep_seconds)
        stopped.set()
        for thread in loads:
            thread.join()
        time.sleep(max(0, uploaded + keep_seconds + 3 * PAUSE - time.time()))
        expired = [path for path in files() - own if is_expired(path)]
        headers = dict(httpx.get(address).headers)
        return EnduranceReport(
            slope, memory, loaded, (before, resident_memory(process)), stored, expired, len(predictions), headers
        )


def upload(address: str, body: bytes, connection: Any = None) -> str:
    """Upload a file; returns its path on the server."""
    import httpx

    response = (connection or httpx).post(f"{address}/gradio_api/upload", files={"files": ("a.png", body)})
    response.raise_for_status()
    return response.json()[0]


def abort_upload(address: str, body: bytes) -> None:
    """Send the first half of an upload, and close the connection."""
    host, port = address.removeprefix("http://").split(":")
    part = b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n' + body
    with socket.create_connection((host, int(port)), 10) as raw:
        head = f"POST /gradio_api/upload HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Length: {len(part)}\r\n"
        raw.sendall(head.encode() + b"Content-Type: multipart/form-data; boundary=b\r\n\r\n" + part[: len(part) // 2])
        time.sleep(0.05)


# Tests


@pytest.mark.slow
def test_concurrent_clients_get_the_predictions_of_their_own_images():
    pytest.importorskip("gradio", reason='gradio is not installed: pip install "gradio>=6"')
    tallies = run_clients(seconds=5, count=3)
    assert all(tally.requests > 0 for tally in tallies)
    assert [(tally.mixed_up, tally.lost) for tally in tallies] == [(0, 0)] * len(tallies)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_malicious_uploads_get_a_response_and_the_server_works_afterwards():
    pytest.importorskip("gradio", reason='gradio is not installed: pip install "gradio>=6"')
    report = abuse(rounds=1)
    assert report.works
    assert not [name for name, response in report.responses.items() if not response]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_uploads_and_aborted_ones_are_deleted_under_load():
    pytest.importorskip("gradio", reason='gradio is not installed: pip install "gradio>=6"')
    report = endure(requests=25, uploads=60, aborted=5, keep_seconds=6)
    assert report.stored >= 60 and report.expired == [] and report.predictions > 0


# Commands


def clients(seconds: str = "60", count: str = "8") -> None:
    """Print the tally of every client, and the sum."""
    tallies = run_clients(float(seconds), int(count))
    print("client  requests  correct  mixed up  lost")
    for tally in tallies:
        print(f"{tally.number:6}  {tally.requests:8}  {tally.correct:7}  {tally.mixed_up:8}  {tally.lost:4}")
    requests, mixed_up, lost = (
        sum(getattr(tally, name) for tally in tallies) for name in ("requests", "mixed_up", "lost")
    )
    print(f"{count} clients, {requests} predictions in {seconds} s: {mixed_up} mixed up, {lost} lost")


def hostile(rounds: str = "2") -> None:
    """Print the response to every upload, and the memory of the server."""
    report, uploads = abuse(int(rounds)), hostile_uploads()
    for name, response in report.responses.items():
        print(f"{name:28} {len(uploads[name]):9} bytes: {response}")
    print(f"{sum(map(bool, report.responses.values()))} of {len(uploads)} uploads got a response.")
    print(f"The server {'works as before' if report.works else 'DOES NOT work as before'}.")
    memory = ", ".join(f"{each:.0f} MB" for each in report.memory)
    print(f"Its resident memory, before the first and after every round: {memory}.")


def endurance(requests: str = "500", uploads: str = "1000", aborted: str = "50") -> None:
    """Print the memory over the requests, what is left of the uploads, and the headers of the page."""
    report = endure(int(requests), int(uploads), int(aborted))
    for number, memory in report.memory.items():
        if number % 100 == 0:
            print(f"after {number:4} requests  {memory:6.1f} MiB")
    print(f"slope                {report.slope:6.2f} MiB per 100 requests")
    print(f"{uploads} uploads, {aborted} aborted, {report.predictions} predictions at the same time:")
    print(f"files stored at most {report.stored:4}; older than the limit afterwards {len(report.expired)}")
    before, after = report.idle
    print(f"memory before {before:.1f}, at most {report.loaded:.1f}, afterwards {after:.1f} MiB")
    for name, value in report.headers.items():
        if name not in ("date", "content-length", "content-type"):
            print(f"{name}: {value}")


COMMANDS: dict[str, Callable[..., None]] = {"clients": clients, "hostile": hostile, "endure": endurance}

if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in COMMANDS:
        sys.exit(__doc__)
    COMMANDS[sys.argv[1]](*sys.argv[2:])
