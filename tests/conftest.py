"""What tests share: one thread each, and the real samples where this machine has them."""

from __future__ import annotations

import os

# Before torch is imported anywhere: under xdist every worker would otherwise take all cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real samples beside the checkout; the test is skipped where it is absent."""
    folder = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"real samples are not at {folder.name}/ beside the checkout")
    return folder
