"""Malicious images for `predict` and `visualize`: bombs, foreign formats, damage, odd names, no files at all."""

from __future__ import annotations

import io
import os
import socket
import struct
import zlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .harness import Case

FORMATS: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 90},
    "PNG": {},
    "WEBP": {},
    "BMP": {},
    "TIFF": {"compression": "tiff_lzw"},
    "GIF": {},
    "PPM": {},
    "AVIF": {},
    "JPEG2000": {},
}
"""Formats that are read, with options for writing them."""
TASKS = ["classification", "classification", "classification", "depth", "colorization"]
"""Tasks whose command reads most of the files; the smallest network is the most frequent one."""
FOREIGN = {
    "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n",
    "pdf": b"%PDF-1.4\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF",
    "exr": b"\x76\x2f\x31\x01\x02\0\0\0channels\0chlist\0",
    "hdr": b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 9 +X 9\n" + b"\2\2\0\x09" * 9,
    "sun_raster": struct.pack(">8I", 0x59A66A95, 60000, 60000, 24, 0, 1, 0, 0),
    "psd": b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 60000, 60000, 8, 3),
    "ico": struct.pack("<HHHBBBBHHII", 0, 1, 1, 0, 0, 0, 0, 1, 32, 2**31 - 1, 22),
    "icns": b"icns\x7f\xff\xff\xffic10\x7f\xff\xff\xf0",
    "wmf": struct.pack("<IHhhhhHIH", 0x9AC6CDD7, 0, 0, 0, 32000, 32000, 1, 0, 0),
    "fits": b"SIMPLE  =                    T".ljust(80) + b"NAXIS   =    999999999".ljust(80) + b"END".ljust(80),
    "dds": b"DDS " + struct.pack("<7I", 124, 0x1007, 60000, 60000, 0, 0, 0) + bytes(96),
    "svg": b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>",
    "xpm": b"/* XPM */\nstatic char *x[] = {\n\"99999 99999 99999 9\",\n",
    "im": b"Image type: RGB image\r\nImage size (x*y): 60000*60000\r\n\x1a",
    "gzip": b"\x1f\x8b\x08\0" + bytes(40),
}  # fmt: skip
"""Starts of files in formats that are not read, some of which start programs or state absurd sizes."""


def chunk(name: bytes, content: bytes) -> bytes:
    """A chunk of a PNG with its checksum."""
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(
    width: int, height: int, bits: int = 8, color_type: int = 2, packed: bytes = zlib.compress(b""), more: bytes = b""
) -> bytes:
    """A PNG whose header may state any size, with compressed pixels and more chunks before them."""
    header = struct.pack(">IIBBBBB", width, height, bits, color_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + more + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


@cache
def packed_zeros(count: int) -> bytes:
    """Compressed zero bytes, of a few thousandths of their number."""
    packer, block = zlib.compressobj(1), bytes(2**20)
    parts = [packer.compress(block[: min(2**20, count - start)]) for start in range(0, count, 2**20)]
    return b"".join(parts) + packer.flush()


def tiff(
    entries: dict[int, tuple[int, int, int]], pages: int = 1, loop: bool = False, content: bytes = bytes(64)
) -> bytes:
    """A TIFF of equal pages with tags to (type, count, value); a loop's last page is followed by its first one."""
    size, first = 2 + 12 * len(entries) + 4, 8 + len(content)
    body = b"".join(struct.pack("<HHII", tag, *entry) for tag, entry in sorted(entries.items()))
    parts = [b"II*\0" + struct.pack("<I", first) + content]
    for page in range(pages):
        following = first + (page + 1) * size if page + 1 < pages else first * loop
        parts.append(struct.pack("<H", len(entries)) + body + struct.pack("<I", following))
    return b"".join(parts)


def tags(width: int, height: int, **others: tuple[int, int, int]) -> dict[int, tuple[int, int, int]]:
    """Tags of a gray TIFF without compression, for `tiff`; others by number, as `t259`."""
    plain = {
        256: (4, 1, width), 257: (4, 1, height), 258: (3, 1, 8), 259: (3, 1, 1), 262: (3, 1, 1), 273: (4, 1, 8),
        277: (3, 1, 1), 278: (4, 1, height), 279: (4, 1, 64),
    }  # fmt: skip
    return plain | {int(name[1:]): entry for name, entry in others.items()}


def photo(rng: np.random.Generator, side: int | None = None) -> Image.Image:
    """A small image of noise, of a random size if none is given."""
    height, width = (side, side) if side else rng.integers(16, 90, 2)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def encode(image: Image.Image, format_: str, **options: Any) -> bytes:
    """An image file."""
    stream = io.BytesIO()
    image = image.convert("P") if format_ == "GIF" else image
    image.save(stream, format_, **{**FORMATS[format_], **options})
    return stream.getvalue()


def replaced(data: bytes, offset: int, part: bytes) -> bytes:
    """The data with other bytes at an offset."""
    return data[:offset] + part + data[offset + len(part) :]


def flipped(rng: np.random.Generator, data: bytes, count: int, start: int = 0) -> bytes:
    """The data with flipped bits at random places."""
    changed = bytearray(data)
    for place in rng.integers(start, len(data), count):
        changed[place] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def bombs(rng: np.random.Generator) -> Iterator[tuple[str, bytes]]:
    """Small files that state large sizes, or unpack to large ones."""
    side = int(rng.integers(20_000, 65_000))
    yield "rgb8.png", png(side, side)
    yield "gray16.png", png(32_768, 32_768, 16, 0, packed_zeros(2**24))
    yield "rgb16.png", png(side, side, 16, 2)
    yield "palette.png", png(side, side, 8, 3, more=chunk(b"PLTE", bytes(768)))
    yield "bits.png", png(2**31 - 1, 2**31 - 1, 1, 0)
    text = packed_zeros(2**28)
    yield "ztxt.png", png(9, 9, more=chunk(b"zTXt", b"a\0\0" + text), packed=packed_zeros(9 * 28))
    yield "itxt.png", png(9, 9, more=chunk(b"iTXt", b"a\0\1\0\0\0" + text), packed=packed_zeros(9 * 28))
    yield "iccp.png", png(9, 9, more=chunk(b"iCCP", b"a\0\0" + text), packed=packed_zeros(9 * 28))
    many = chunk(b"zTXt", b"a\0\0" + packed_zeros(2**20 - 1)) * 2000
    yield "many_texts.png", png(9, 9, more=many, packed=packed_zeros(9 * 28))
    yield "raw.ppm", b"P6 %d %d 255\n" % (side, side)
    yield "raw16.pgm", b"P5 %d %d 65535\n" % (side, side) + bytes(999)
    yield "plain.ppm", b"P3 %d %d 255\n1 2 3" % (side, side)
    yield "bits.pbm", b"P4 %d %d\n" % (2**31 - 1, 2**31 - 1)
    yield "floats.pfm", b"Pf\n%d %d\n-1.0\n" % (side, side)
    yield "digits.ppm", b"P6 " + b"9" * int(rng.integers(4400, 9000)) + b" 9 255\n" + bytes(99)
    yield "gray.tif", tiff(tags(side, side))
    yield "sixteen.tif", tiff(tags(32_768, 32_768, t258=(3, 1, 16)))
    yield "tiles.tif", tiff(tags(64, 64, t259=(3, 1, 5), t322=(4, 1, 65_520), t323=(4, 1, 65_520), t324=(4, 1, 8)))
    yield "strips.tif", tiff(tags(64, 64, t259=(3, 1, 8), t273=(4, 2**28, 8), t279=(4, 2**28, 8)))
    yield "samples.tif", tiff(tags(64, 64, t277=(3, 1, 65_535)))
    yield "tags.tif", tiff(tags(64, 64, t700=(7, 2**31 - 1, 8), t34675=(7, 2**31 - 1, 8)))
    yield "canvas.webp", b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0\x10\0\0\0" + b"\xff\x3f\0" * 2 + bytes(4)
    webp = encode(photo(rng), "WEBP", quality=80)
    yield "frame.webp", replaced(webp, webp.index(b"\x9d\x01\x2a") + 3, b"\xff\x3f\xff\x3f")
    avif = encode(photo(rng), "AVIF")
    yield "frame.avif", replaced(avif, avif.index(b"ispe") + 8, struct.pack(">II", side, side))
    jp2 = encode(photo(rng), "JPEG2000")
    siz = jp2.index(b"\xff\x51") + 6
    large = replaced(jp2, siz, struct.pack(">II", side, side))
    yield "codestream.jp2", replaced(large, jp2.index(b"ihdr") + 4, struct.pack(">II", side, side))
    yield "tiles.jp2", replaced(large, siz + 16, struct.pack(">II", 1, 1))
    gif = encode(photo(rng), "GIF")
    yield "screen.gif", replaced(gif, 6, b"\xff\xff\xff\xff")
    place = gif.index(b",\0\0\0\0")
    yield "frame.gif", replaced(gif, place + 5, b"\xff\xff\xff\xff")
    bmp = encode(photo(rng), "BMP")
    yield "header.bmp", replaced(bmp, 18, struct.pack("<ii", side, -side))
    rle = struct.pack("<IiiHHIIiiII", 40, side, side, 1, 8, 1, 0, 0, 0, 256, 0) + bytes(1024)
    yield "rle.bmp", b"BM" + struct.pack("<IHHI", 2**20, 0, 0, 54 + 1024) + rle + b"\xff\x01" * 9999
    jpeg = encode(photo(rng), "JPEG")
    yield "frame.jpg", replaced(jpeg, jpeg.index(b"\xff\xc0") + 5, struct.pack(">HH", 65_000, side))
    head = encode(Image.new("L", (4000, 4000)), "JPEG", progressive=True)
    last = head.rindex(b"\xff\xda")
    yield "scans.jpg", head[:last] + head[last:-2] * int(rng.integers(200, 4000)) + b"\xff\xd9"


def oddities(rng: np.random.Generator) -> Iterator[tuple[str, bytes]]:
    """Files that may be read, and that make careless readers slow or large."""
    yield "apng.png", png(9, 9, more=chunk(b"acTL", struct.pack(">II", 2**31 - 1, 0)), packed=packed_zeros(9 * 28))
    yield "pixels_beyond.png", png(9, 9, packed=packed_zeros(2**29))
    bmp = encode(photo(rng), "BMP")
    yield "colors.bmp", replaced(bmp, 46, struct.pack("<I", 2**31 - 1))
    yield "pages.tif", tiff(tags(8, 8), pages=100_000)
    yield "loop.tif", tiff(tags(8, 8), pages=3, loop=True)
    gif = encode(photo(rng, 16), "GIF")
    place = gif.index(b",\0\0\0\0")
    yield "frames.gif", gif[:place] + gif[place:-1] * int(rng.integers(20_000, 60_000)) + b";"
    yield "endless.gif", gif[:place] + b",\0\0\0\0\x10\0\x10\0\0\2" + b"\xff" * 2**22
    rle = struct.pack("<IiiHHIIiiII", 40, 9000, 9000, 1, 8, 1, 0, 0, 0, 256, 0) + bytes(1024)
    yield "rle.bmp", b"BM" + struct.pack("<IHHI", 2**20, 0, 0, 54 + 1024) + rle + b"\xff\x01" * 400_000
    side = int(rng.integers(6000, 9000))
    yield "zeros16.png", png(side, side, 16, 2, packed_zeros(side * (side * 6 + 1)))
    yield "zeros_gray16.png", png(side, side, 16, 0, packed_zeros(side * (side * 2 + 1)))
    yield "strip.png", png(2**20, 90, 8, 6, packed_zeros(90 * (2**22 + 1)))
    exif = Image.Exif()
    exif[0x0112], exif[0x011A], exif[0x9286] = 60_000, (1, 0), b"x" * 60_000  # type: ignore[assignment]
    yield "exif.jpg", encode(photo(rng), "JPEG", exif=flipped(rng, exif.tobytes(), 40, 6))
    yield "profile.jpg", encode(photo(rng), "JPEG", icc_profile=bytes(rng.integers(0, 256, 2**22 + 999, np.uint8)))
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    yield "damaged_profile.png", encode(photo(rng), "PNG", icc_profile=flipped(rng, profile, 60, 128))
    frames = [photo(rng, 32) for _ in range(3)]
    stream = io.BytesIO()
    frames[0].save(stream, "MPO", save_all=True, append_images=frames[1:])
    data = stream.getvalue()
    yield "frames.mpo", flipped(rng, data, 8, data.index(b"MPF\0") + 4)


def names(rng: np.random.Generator) -> Iterator[bytes]:
    """File names that break terminals, encodings and options."""
    yield b"latin-\xe9\xff.png"
    yield b"new\nline\rand\ttab.png"
    yield b"\x1b[2J\x1b]0;title\x07bell.png"
    yield "right\u202egnp.to left\u200b.png".encode()
    yield b"n" * int(rng.integers(230, 251)) + b".png"
    yield b"%s%n {0} $(touch x) `x` '\" *?[a].png"
    yield b" .png"


def generate_images(rng: np.random.Generator, folder: Path) -> Iterator[Case]:
    """Cases of `predict` with one file, several and folders, and of `visualize`."""

    def write(name: str, data: bytes) -> str:
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        return str(path)

    def case(kind: str, name: str, *command: str, may_succeed: bool = False) -> Case:
        return Case(f"image, {kind}", name, command, may_succeed)

    def saliency(file: str) -> tuple[str, ...]:
        return ("visualize", "saliency", "--model", "depth", "--image", file, "--target", "depth@3,3", "--out", "o.png")

    malicious = list(bombs(rng))
    for name, data in malicious:
        file = write(f"bombs/{name}", data)
        yield case("bomb", name, "predict", str(rng.choice(TASKS)), file)
    for name, data in malicious[:: int(rng.integers(5, 9))]:
        yield case("bomb", f"visualize {name}", *saliency(write(f"visualized/{name}", data)))
    for name, data in oddities(rng):
        yield case("odd", name, "predict", "lenet5_mnist", write(f"odd/{name}", data), may_succeed=True)
    for name, data in FOREIGN.items():
        yield case("foreign", name, "predict", "lenet5_mnist", write(f"foreign/{name}.png", data))
    yield case("foreign", "visualize eps", *saliency(str(folder / "foreign" / "eps.png")))

    first = write("valid/first.png", encode(photo(rng, 64), "PNG"))
    for format_ in FORMATS:
        data = encode(photo(rng), format_)
        suffix = str(rng.choice(["jpg", "png", "tif", "gif", "webp"]))
        for number in range(2):
            cut = data[: int(rng.integers(1, len(data)))]
            yield case(
                "cut",
                f"{format_} {number}",
                "predict",
                "depth",
                write(f"cut/{format_}{number}.{suffix}", cut),
                may_succeed=True,
            )
            for start, where in ((0, "anywhere"), (min(12, len(data) - 1), "behind the start")):
                file = write(
                    f"flips/{format_}{start}{number}.{suffix}", flipped(rng, data, int(rng.integers(1, 40)), start)
                )
                task = str(rng.choice(TASKS))
                yield case("flips", f"{format_} {where} {number}", "predict", task, file, may_succeed=True)
        noise = data[:16] + bytes(rng.integers(0, 256, 4000, np.uint8))
        yield case(
            "flips",
            f"{format_} noise",
            "predict",
            "flow",
            first,
            write(f"flips/{format_}.{suffix}", noise),
            may_succeed=True,
        )

    special = folder / "special"
    special.mkdir()
    os.mkfifo(special / "pipe.png")
    (special / "zero.png").symlink_to("/dev/zero")
    (special / "random.png").symlink_to("/dev/urandom")
    (special / "loop.png").symlink_to("loop.png")
    (special / "nothing.png").symlink_to("nowhere")
    (special / "memory.png").symlink_to("/proc/self/mem")
    (special / "folder.png").mkdir()
    (special / "empty.png").touch()
    with socket.socket(socket.AF_UNIX) as server:
        here = os.getcwd()
        os.chdir(special)  # the path of a socket has at most 107 bytes
        server.bind("socket.png")
        os.chdir(here)
    for entry in sorted(special.iterdir()):
        yield case("special", entry.name, "predict", "lenet5_mnist", str(entry))
    yield case("special", "visualize pipe", *saliency(str(special / "pipe.png")))
    yield case("special", "visualize zero", *saliency(str(special / "zero.png")))
    yield case("special", "a folder of them", "predict", "depth", str(special))

    for number, name in enumerate(names(rng)):
        for valid in (False, True):
            place = folder / f"names{number}{valid}"
            place.mkdir()
            path = os.fsencode(place) + b"/" + name
            Path(os.fsdecode(path)).write_bytes(encode(photo(rng, 32), "PNG") if valid else b"\x89PNG no")
            label = f"{number} {'valid' if valid else 'damaged'}"
            yield case("names", label, "predict", "lenet5_mnist", os.fsdecode(path), may_succeed=valid)
            yield case("names", f"{label} in a folder", "predict", "lenet5_mnist", str(place), may_succeed=valid)
    yield case("names", "an option", "predict", "depth", "-x.png")
    yield case("names", "an option, stated as a file", "predict", "depth", "--", "-x.png")
    yield case("names", "too long", "predict", "depth", "x" * 5000 + ".png")

    for task in ("depth", "classification", "restoration", "flow"):
        mixed = folder / f"mixed-{task}"
        mixed.mkdir()
        for number, (name, data) in enumerate(malicious[:: int(rng.integers(4, 7))]):
            (mixed / f"{number}{name}").write_bytes(data)
        for number in range(4):
            (mixed / f"{number}.jpg").write_bytes(encode(photo(rng, 48), "JPEG"))
        yield case("together", f"{task}, a folder", "predict", task, str(mixed))
        files = [str(file) for file in sorted(mixed.iterdir())][:4]
        yield case("together", f"{task}, four files", "predict", task, *files)
    sizes = [write(f"valid/{side}.png", encode(photo(rng, side), "PNG")) for side in (1, 48)]
    yield case("together", "a pair of two sizes", "predict", "flow", *sizes)
