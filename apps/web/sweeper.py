"""The sweeper of the folder of uploads and results: files are deleted by age, and the oldest ones beyond a size.

Gradio's own cleaner ends at the first error, and does not know the files of uploads that were aborted.
"""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

FOLDER_BYTES = 2**31
"""Maximum size of all stored files."""
UNFINISHED_SECONDS = 150
"""Seconds since its last byte after which an upload counts as aborted; those in progress are right in the folder."""
PAUSE = 5.0
"""Seconds between two sweeps, if files do not have to be deleted earlier."""


class Sweeper:
    """Deletes old files of a folder in a thread of its own, as a context manager; at its end it deletes all.

    Files that exist at the beginning belong to the page and are kept until the end.
    """

    def __init__(
        self,
        folder: Path,
        lifetime: float,
        max_bytes: int = FOLDER_BYTES,
        on_delete: Callable[[str], None] = lambda path: None,
    ) -> None:
        """
        Args:
            folder: the folder.
            lifetime: seconds after which a file is deleted.
            max_bytes: size of all files in bytes; the oldest are deleted first.
            on_delete: called with the path of every deleted file.
        """
        self.folder, self.lifetime, self.max_bytes, self.on_delete = folder, lifetime, max_bytes, on_delete
        self._kept = {str(path) for path in folder.rglob("*")}
        self._size = self._reserved = 0
        self._lock, self._stopped = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="sweeper", daemon=True)

    def __enter__(self) -> Sweeper:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join(PAUSE)
        for _attempt in range(10):  # a request that still runs may write in between
            shutil.rmtree(self.folder, ignore_errors=True)
            if not self.folder.exists():
                break
            time.sleep(0.1)

    @contextmanager
    def room(self, count: int) -> Iterator[bool]:
        """Reserve `count` bytes for an upload as a context manager; yields False if they are not free."""
        with self._lock:
            free = self._size + self._reserved + count <= self.max_bytes
            self._reserved += count if free else 0
        try:
            yield free
        finally:
            with self._lock:
                self._reserved -= count if free else 0

    def sweep(self) -> None:
        """Delete what is too old or too much, once."""
        now, files = time.time(), []
        for parent, folders, names in os.walk(self.folder, topdown=False):
            for name in names:
                path = os.path.join(parent, name)
                with suppress(OSError):  # deleted in the meantime
                    status = os.lstat(path)
                    files.append((max(status.st_mtime, status.st_ctime), status.st_size, path))
            for name in folders:
                path = os.path.join(parent, name)
                # Only old folders: a new one may be about to get its file. Those that are not empty stay.
                with suppress(OSError):
                    if path not in self._kept and now - os.lstat(path).st_mtime > self.lifetime:
                        os.rmdir(path)
        total = sum(size for _, size, _ in files)
        for written, size, path in sorted(files):
            unfinished = os.path.dirname(path) == str(self.folder)
            lifetime = min(self.lifetime, UNFINISHED_SECONDS) if unfinished else self.lifetime
            # A quarter stays free, so that new uploads find room.
            if path not in self._kept and (now - written > lifetime or total > self.max_bytes * 3 // 4):
                with suppress(FileNotFoundError):
                    os.unlink(path)
                total -= size
                self.on_delete(path)
        self._size = total

    def _run(self) -> None:
        while not self._stopped.wait(min(PAUSE, self.lifetime / 4)):
            try:
                self.sweep()
            except Exception as error:  # the next sweep tries again
                print(f"The sweeper of uploads failed: {type(error).__name__}: {error}", file=sys.stderr)
