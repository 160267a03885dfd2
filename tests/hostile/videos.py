"""Malicious videos for `predict` and `webcam`: playlists, absurd headers, damage, files that are no files."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .harness import Case
from .images import encode, flipped, photo, replaced

CODECS = {"mp4": "libx264", "mov": "mpeg4", "avi": "mjpeg", "mkv": "libx264", "webm": "libvpx"}
"""Container to the codec of its clip."""


def clip(rng: np.random.Generator, path: Path, codec: str) -> bytes:
    """A clip of a few small frames of noise."""
    import av

    height, width = (16 * int(number) for number in rng.integers(2, 6, 2))
    with av.open(str(path), "w") as container:
        track: Any = container.add_stream(codec, rate=25)
        track.height, track.width, track.pix_fmt = height, width, "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for _ in range(4):
            pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
            container.mux(track.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(track.encode(None))
    return path.read_bytes()


def absurd_headers(rng: np.random.Generator, clips: dict[str, bytes]) -> Iterator[tuple[str, bytes]]:
    """Clips with fields of their headers replaced by absurd values."""
    mp4, avi = clips["mp4"], clips["avi"]
    entry = mp4.index(b"avc1", mp4.index(b"stsd"))
    yield "sample_entry.mp4", replaced(mp4, entry + 28, struct.pack(">HH", 65_535, 65_535))
    track = mp4.index(b"tkhd")
    yield "track_size.mp4", replaced(mp4, track + 4 + 76, struct.pack(">II", 2**32 - 1, 2**32 - 1))
    yield "matrix.mp4", replaced(mp4, track + 4 + 40, bytes(rng.integers(0, 256, 36, np.uint8)))
    scale = mp4.index(b"mdhd")
    yield "timescale_zero.mp4", replaced(mp4, scale + 16, struct.pack(">I", 0))
    yield "timescale_one.mp4", replaced(mp4, scale + 16, struct.pack(">II", 1, 2**32 - 1))
    times = mp4.index(b"stts")
    yield "durations.mp4", replaced(mp4, times + 16, struct.pack(">I", 2**32 - 1))
    yield "durations_zero.mp4", replaced(mp4, times + 16, struct.pack(">I", 0))
    yield "frames.mp4", replaced(mp4, times + 12, struct.pack(">I", 2**32 - 1))
    for name in (b"stsz", b"stco", b"stsc", b"stss"):
        if name in mp4:
            count = mp4.index(name) + (12 if name == b"stsz" else 8)
            yield f"{name.decode()}_count.mp4", replaced(mp4, count, struct.pack(">I", 2**32 - 1))
    bitmap = avi.index(b"strf") + 8
    yield "bitmap.avi", replaced(avi, bitmap + 4, struct.pack("<ii", 60_000, 60_000))
    yield "bitmap_negative.avi", replaced(avi, bitmap + 4, struct.pack("<ii", -1, -(2**31)))
    stream = avi.index(b"strh") + 8
    yield "rate_zero.avi", replaced(avi, stream + 20, struct.pack("<II", 0, 0))
    yield "rate_huge.avi", replaced(avi, stream + 20, struct.pack("<II", 1, 2**32 - 1))
    yield "rate_tiny.avi", replaced(avi, stream + 20, struct.pack("<II", 2**31 - 1, 1))
    yield "box_loop.mp4", mp4[:32] + struct.pack(">I", 0) + mp4[36:]
    yield "nested.mp4", mp4[:32] + b"".join(struct.pack(">I4s", 2**31 - 8 * n, b"moov") for n in range(50_000))


def scripts(clip_path: Path) -> Iterator[tuple[str, str]]:
    """Playlists under the names of videos: FFmpeg would open what they list."""
    yield "concat.mp4", f"ffconcat version 1.0\nfile {clip_path.name}\n"
    yield "concat_absolute.mkv", f"ffconcat version 1.0\nfile '{clip_path}'\n"
    yield "hls.mp4", f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile://{clip_path}\n#EXT-X-ENDLIST\n"
    yield "hls_web.mp4", "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n"
    yield "sdp.mp4", "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n"
    yield "dash.webm", f"<?xml version='1.0'?><MPD><Period><BaseURL>{clip_path}</BaseURL></Period></MPD>"
    yield "subtitles.mkv", "1\n00:00:00,000 --> 99:59:59,999\nx\n"


def generate_videos(rng: np.random.Generator, folder: Path) -> Iterator[Case]:
    """Cases of `predict TASK FILE` and `webcam TASK --video FILE --record out.mp4`."""

    def case(kind: str, name: str, path: Path, may_succeed: bool = False) -> Case:
        task = str(rng.choice(["depth", "flow", *["classification"] * 4]))
        command = ("predict", task, str(path))
        if rng.random() < 0.25:
            command = ("webcam", task, "--video", str(path), "--record", "out.mp4", "--size", "64")
        return Case(f"video, {kind}", f"{name} {command[0]} {task}", command, may_succeed)

    def written(name: str, data: bytes) -> Path:
        (folder / name).write_bytes(data)
        return folder / name

    clips = {suffix: clip(rng, folder / f"clip.{suffix}", codec) for suffix, codec in CODECS.items()}
    for name, text in scripts(folder / "clip.mp4"):
        yield case("playlist", name, written(name, text.encode()))
    for name, data in absurd_headers(rng, clips):
        yield case("header", name, written(name, data), may_succeed=True)
    for suffix, data in clips.items():
        for number in range(2):
            cut = data[: int(rng.integers(1, len(data)))]
            yield case("cut", f"{suffix} {number}", written(f"cut{number}.{suffix}", cut), may_succeed=True)
            for start in (0, 64):
                changed = flipped(rng, data, int(rng.integers(1, 60)), start)
                yield case(
                    "flips",
                    f"{suffix} {start} {number}",
                    written(f"flips{start}{number}.{suffix}", changed),
                    may_succeed=True,
                )
        noise = data[:48] + bytes(rng.integers(0, 256, 4000, np.uint8))
        yield case("flips", f"{suffix} noise", written(f"noise.{suffix}", noise))
        other = str(rng.choice(sorted(set(CODECS) - {suffix})))
        yield case("confusion", f"{suffix} as {other}", written(f"confused-{suffix}.{other}", data), may_succeed=True)
    for format_ in ("PNG", "JPEG", "GIF", "WEBP"):
        yield case("confusion", format_, written(f"{format_}.mp4", encode(photo(rng), format_)))
    os.mkfifo(folder / "pipe.mp4")
    (folder / "zero.avi").symlink_to("/dev/zero")
    (folder / "empty.mkv").touch()
    (folder / "folder.mp4").mkdir()
    for name in ("pipe.mp4", "zero.avi", "empty.mkv", "folder.mp4", "missing.mp4"):
        yield case("special", name, folder / name)
    for name in (b"latin-\xe9.mp4", b"new\nline\x1b[2J.mp4", b"v" * 240 + b".mp4"):
        path = folder / os.fsdecode(name)
        path.write_bytes(clips["mp4"])
        yield case("names", repr(name[:9]), path, may_succeed=True)
        path = folder / f"damaged{os.fsdecode(name)}"[-250:]
        path.write_bytes(clips["mp4"][:99])
        yield case("names", f"damaged {name[:9]!r}", path)
