"""What is shown and measured of `densevision web`.

python docs/web.py screenshot docs/web.jpg       the page, in headless Chromium, with an answer on it
python docs/web.py clients [SECONDS [COUNT]]     clients at once, every answer compared with the direct one
python docs/web.py hostile                       uploads that mean no good, the answer to each, and memory

Everything runs against a page that this script starts for itself, by the command that people type.
"""

from __future__ import annotations

import io
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image

from densevision.apps.web.answering import STEM, said
from densevision.tasks.inference import Predictor, load, shipped_checkpoint

TASKS = ("depth", "colorization", "restoration", "pose")
"""What the clients ask, in turn: one picture in."""
SMALL = ("--megabytes", "2", "--megapixels", "4")
ROUNDS = 2
ASKING = threading.Lock()


@contextmanager
def serving(*options: str) -> Iterator[tuple[str, int]]:
    """`densevision web` in a process of its own; gives its address and its process number."""
    command = [
        sys.executable,
        "-m",
        "densevision",
        "web",
        "--port",
        str(free_port()),
        "--device",
        "cpu",
        "--amp",
        "off",
    ]
    with subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True) as page:
        assert page.stdout is not None
        try:
            yield next(word for line in page.stdout for word in line.split() if word.startswith("http")), page.pid
        finally:
            page.terminate()
            page.wait(30)


def free_port() -> int:
    """A port at which nobody listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


# Clients


def clients(seconds: str = "60", count: str = "8") -> None:
    """Everybody asks all the time, each about pictures of their own, and knows what the answer must be."""
    direct = {task: load(task, "cpu", "off") for task in TASKS}
    told: list[tuple[int, int, int, int]] = []
    with TemporaryDirectory() as made, serving() as (address, _):
        until = time.monotonic() + float(seconds)
        threads = [
            threading.Thread(target=lambda n=n: told.append(client(address, direct, n, until, Path(made))), daemon=True)
            for n in range(int(count))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(float(seconds) + 120)
    print("client  asked  right  mixed up  lost")
    for number, asked, right, lost in sorted(told):
        print(f"{number:6}  {asked:5}  {right:5}  {asked - right - lost:8}  {lost:4}")
    _, *sums = map(sum, zip(*told, strict=True))
    asked, right, lost = sums
    print(
        f"{len(told)} of {count} clients, {asked} answers in {seconds} s: {asked - right - lost} mixed up, {lost} lost"
    )


def client(
    address: str, direct: dict[str, Predictor], number: int, until: float, folder: Path
) -> tuple[int, int, int, int]:
    """One client; gives its number, and how many answers it asked for, were right, and were lost."""
    from gradio_client import Client, handle_file

    # An answer is lost where none comes within a minute; the client's own patience ends after five seconds.
    got, patient = str(folder / f"got-{number}"), {"timeout": 60}
    page = Client(address, verbose=False, download_files=got, httpx_kwargs=patient)
    asked = right = lost = 0
    while time.monotonic() < until:
        task = TASKS[(number + asked) % len(TASKS)]
        pixels = blobs(number, asked)
        sent = folder / f"sent-{number}-{asked}.png"
        Image.fromarray(pixels).save(sent)
        with ASKING:
            expected = direct[task].predict(pixels)
        asked += 1
        try:
            shown, sentence, files = page.predict(shipped_checkpoint(task).stem, handle_file(sent), api_name=f"/{task}")
            right += same(expected, shown, sentence, files, folder / f"direct-{number}")
        except Exception as error:  # whatever goes wrong is counted, and said
            print(f"client {number}: {type(error).__name__}: {error}", file=sys.stderr)
            lost += 1
    return number, asked, right, lost


def blobs(number: int, asked: int) -> np.ndarray:
    """A picture that no other client sends, (H, W, 3) uint8."""
    rng = np.random.default_rng((number, asked))
    small = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((160 + 8 * number, 120), Image.Resampling.BICUBIC))


def same(expected: Any, shown: str, sentence: str, files: list[str], folder: Path) -> bool:
    """Whether an answer of the page is the direct one: the picture, the words and every file, byte by byte."""
    shutil.rmtree(folder, ignore_errors=True)
    direct = {file.name: file.read_bytes() for file in expected.save(folder, STEM)}
    came = {Path(file).name: Path(file).read_bytes() for file in files}
    with Image.open(shown) as picture:
        alike = np.array_equal(np.asarray(picture.convert("RGB")), expected.picture())
    return alike and said(expected) == sentence and direct == came


# Hostile uploads


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    """A picture as a file's bytes."""
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def chunk(name: bytes, body: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png_of(width: int, height: int, body: bytes) -> bytes:
    """A PNG that claims a size, in grey."""
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


@cache
def hostile_uploads() -> dict[str, bytes]:
    """Files by name that nobody sends in good faith, and some that are only odd; all below `SMALL` but two."""
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (60, 80, 3), dtype=np.uint8))
    frames = [noise.rotate(angle) for angle in (0, 90, 180)]
    whole = encoded(noise, "PNG")
    zeros = zlib.compress(bytes(2**24), 9)
    turn = Image.Exif()
    turn[0x0112] = 6
    sixteen = Image.fromarray(rng.integers(0, 65536, (60, 80), dtype=np.uint16))
    return {
        "nothing.png": b"",
        "one-byte.jpg": b"\xff",
        "text.png": b"This is no picture.",
        "page.html.png": b"<html><script>alert(1)</script></html>",
        "drawing.svg": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
        "script.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) (r) file\n%%EOF\n",
        "paper.pdf": b"%PDF-1.4\n1 0 obj<<>>endobj\ntrailer<<>>\n%%EOF\n",
        "archive.zip": b"PK\x03\x04" + bytes(200),
        "pickled.png": b"\x80\x04\x95\x1d\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x8c\x06system\x93\x94.",
        "random.jpg": rng.bytes(5000),
        "half.png": whole[: len(whole) // 2],
        "half.jpg": encoded(noise, "JPEG")[:900],
        "flipped.png": whole[:60] + bytes([whole[60] ^ 255]) + whole[61:],
        "header-alone.png": whole[:33],
        "bomb-50000.png": png_of(50000, 50000, zeros),
        "bomb-4000.png": png_of(4000, 4000, zlib.compress(bytes(4000 * 4001), 9)),
        "claims-2-31.png": png_of(2**31 - 1, 2**31 - 1, b""),
        "no-width.png": png_of(0, 100, b""),
        "bomb.gif": b"GIF89a" + struct.pack("<HH", 65535, 65535) + b"\x80\0\0" + bytes(6) + b",",
        "bomb.bmp": b"BM" + struct.pack("<IHHIIiiHH24x", 54, 0, 0, 54, 40, 99999, 99999, 1, 24),
        "bomb.tiff": encoded(Image.new("1", (12000, 12000)), "TIFF", compression="group4"),
        "text-bomb.png": whole[:33] + chunk(b"zTXt", b"a\0\0" + zeros) + whole[33:],
        "too-many-bytes.png": whole + bytes(3 * 2**20),
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
        "turned.jpg": encoded(noise, "JPEG", exif=turn),
        "..%2f..%2fetc%2fpasswd.png": whole,
    }  # fmt: skip


def ask_with(address: str, task: str, checkpoint: str, name: str, body: bytes) -> str:
    """Upload a file as a browser does and ask about it; the sentence that comes back."""
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


def hostile() -> None:
    """Every upload, what is answered, whether the page still answers well, and its memory round after round."""
    checkpoint = shipped_checkpoint("depth").stem
    good = encoded(Image.fromarray(blobs(0, 0)), "PNG")
    uploads = hostile_uploads()
    with serving(*SMALL) as (address, process):
        first = ask_with(address, "depth", checkpoint, "good.png", good)
        used = [resident(process)]
        for number in range(ROUNDS):
            answers = {name: ask_with(address, "depth", checkpoint, name, body) for name, body in uploads.items()}
            used.append(resident(process))
            if number == 0:
                for name, sentence in answers.items():
                    print(f"{name:28} {len(uploads[name]):9} bytes: {sentence}")
            print(f"round {number + 1}: {sum(map(bool, answers.values()))} of {len(uploads)} answered", flush=True)
        alive = ask_with(address, "depth", checkpoint, "good.png", good) == first
        print(f"The page {'answers as before' if alive else 'DOES NOT answer as before'}.")
        print(f"Its resident memory, before and after every round: {', '.join(f'{each:.0f} MB' for each in used)}.")


def resident(process: int) -> float:
    """Megabytes that a process holds."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


# Pictures


def screenshot(out: str) -> None:
    """The depth tab with an answer, and what the network looked at, beside each other."""
    from playwright.sync_api import sync_playwright

    with serving() as (address, _), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        shots = []
        for tab, example, button in (("Depth", "button.gallery-item", "Answer"), ("Visualize", "depth: ", "Look")):
            page = browser.new_page(viewport={"width": 1180, "height": 1180})
            page.goto(address)
            page.get_by_role("tab", name=tab, exact=True).click()
            panel = page.get_by_role("tabpanel").filter(visible=True).first
            (panel.locator(example) if tab == "Depth" else panel.get_by_text(example)).first.click()
            page.wait_for_timeout(2500)
            panel.get_by_role("button", name=button, exact=True).click()
            panel.get_by_text("KB").first.wait_for(timeout=60_000)
            page.evaluate("window.scrollTo(0, 0)")
            page.wait_for_timeout(1000)
            shots.append(Image.open(io.BytesIO(page.screenshot())).convert("RGB"))
        browser.close()
    both = Image.new("RGB", (sum(shot.width for shot in shots), shots[0].height), "white")
    both.paste(shots[0], (0, 0))
    both.paste(shots[1], (shots[0].width, 0))
    both.save(out, quality=82)
    print(f"{out}: {Path(out).stat().st_size / 1000:.0f} kB")


COMMANDS: dict[str, Callable[..., None]] = {"clients": clients, "hostile": hostile, "screenshot": screenshot}

if __name__ == "__main__":
    _, command, *words = sys.argv
    COMMANDS[command](*words)
