"""Ray: connection to a cluster, or one on this machine (extra: ray)."""

from __future__ import annotations

import importlib.util
import logging
import os
from typing import Any

from ..errors import UserError

SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # Without it, a token is written into the home folder.
    "RAY_AUTH_MODE": "disabled",
    # Ray's workers have a low priority otherwise, as if they ran in the background.
    "RAY_worker_niceness": "0",
    # Of a machine that starts slowly.
    "RAY_agent_register_timeout_ms": "300000",
}
"""Environment variables, unless the caller has set them."""


def is_installed() -> bool:
    """Whether the extra is installed."""
    return importlib.util.find_spec("ray") is not None


def connect() -> Any:
    """The module ray, connected: to the cluster of RAY_ADDRESS, else to one that is started on this machine.

    Raises:
        UserError: Ray is not installed.
    """
    if not is_installed():
        raise UserError("Ray is not installed: pip install 'densevision[ray]', or leave out --engine ray.")
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    import ray  # pyright: ignore[reportMissingImports]

    if not ray.is_initialized():
        ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.WARNING)
    return ray
