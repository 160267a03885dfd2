"""Who may use a page of this machine: the rules that the web demo and the webcam page share.

A page of another site, open in a user's browser, can send requests to this machine too: as a form, or under a host name
that the site's owner resolves to this address (DNS rebinding). Both are recognized by what the browser states, the
headers Origin and Host, and refused.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated
from urllib.parse import urlsplit

from cyclopts import Parameter

from ..errors import UserError

Password = Annotated[str | None, Parameter(env_var="DENSEVISION_PASSWORD")]
NoPassword = Annotated[bool, Parameter(negative=())]
"""Types of the options --password and --no-password."""

MIN_PASSWORD = 8
"""Minimum length of a password in characters."""
WRONG_PASSWORD_SECONDS = 1
"""Seconds until the response to a wrong password."""
FAILED = "The server cannot process this request."
"""Response to a request that is not one of a browser."""
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
"""Headers of every response. The content security policy is the page's own."""


@dataclass(frozen=True)
class Access:
    """The address at which a page is served, and its password.

    Attributes:
        host: address that the server listens on.
        password: password for HTTP basic authentication, with any user name; None lets everyone in.
    """

    host: str = "127.0.0.1"
    password: str | None = None

    def refusal(self, headers: Mapping[str, str]) -> tuple[int, str] | None:
        """Status and sentence with which to refuse a request; None if it may pass. `headers` has lower-case names."""
        host, origin = headers.get("host", "").lower(), headers.get("origin")
        if not self._is_own_name(host):
            return 403, "The server is not known under this host name; use its IP address."
        if origin is not None and origin.lower().partition("://")[2] != host:
            return 403, "Requests from pages of other sites are refused."
        if not self._is_authorized(headers.get("authorization", "")):
            return 401, "A password is required; it was set with --password when the server was started."
        return None

    @cached_property
    def _own_names(self) -> set[str]:
        names = {"localhost", self.host.lower()}
        return names if is_loopback(self.host) else names | {socket.gethostname().lower(), socket.getfqdn().lower()}

    def _is_own_name(self, header: str) -> bool:
        try:
            name = urlsplit(f"//{header}").hostname or ""
        except ValueError:
            return False
        # Nobody can resolve an address to another one, so that addresses are safe.
        return name in self._own_names or (is_loopback(name) if is_loopback(self.host) else _is_address(name))

    def _is_authorized(self, header: str) -> bool:
        if self.password is None:
            return True
        try:
            given = base64.b64decode(header.partition(" ")[2], validate=True).partition(b":")[2]
        except (binascii.Error, ValueError):
            return False
        return header[:6].lower() == "basic " and hmac.compare_digest(given, self.password.encode())


def access(host: str, password: str | None, no_password: bool) -> Access:
    """The access that the options --host, --password and --no-password state.

    Raises:
        UserError: the network can reach `host`, and neither a password nor its absence is stated; a short password.
    """
    if password is not None and no_password:
        raise UserError("--password and --no-password exclude each other; state one of them.")
    if password is not None and len(password) < MIN_PASSWORD:
        raise UserError(f"The password has {len(password)} characters; --password takes at least {MIN_PASSWORD}.")
    if password is None and not no_password and not is_loopback(host):
        raise UserError(
            f"--host {host}: the network can reach this page; state --password PASSWORD, or --no-password to let"
            " everyone in."
        )
    return Access(host, password)


def is_loopback(host: str) -> bool:
    """Whether a host name or address is reachable from this machine only."""
    return host.lower() == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
