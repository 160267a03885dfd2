"""Rules of access that both pages share, and the options that state them."""

from __future__ import annotations

import base64

import pytest

from densevision.apps.access import Access, access, is_loopback
from densevision.errors import UserError


def basic(password: str, user: str = "me") -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.mark.parametrize(
    ("host", "header", "passes"),
    [
        ("127.0.0.1", "127.0.0.1:7860", True),
        ("127.0.0.1", "LOCALHOST:7860", True),
        ("127.0.0.1", "[::1]:7860", True),
        ("127.0.0.1", "192.168.0.7:7860", False),
        ("127.0.0.1", "elsewhere.example:7860", False),
        ("127.0.0.1", "127.0.0.1.elsewhere.example", False),
        ("127.0.0.1", "[", False),
        ("127.0.0.1", "", False),
        # Nobody can resolve an address to another one; names may be anybody's.
        ("0.0.0.0", "192.168.0.7:7860", True),
        ("0.0.0.0", "elsewhere.example:7860", False),
        ("gpu.lab.example", "gpu.lab.example:7860", True),
    ],
)
def test_only_own_host_names_pass(host, header, passes):
    refusal = Access(host).refusal({"host": header})
    assert refusal is None if passes else refusal is not None and refusal[0] == 403


@pytest.mark.parametrize(
    ("origin", "passes"),
    [
        ("http://127.0.0.1:7860", True),
        ("https://127.0.0.1:7860", True),  # behind a proxy
        ("http://127.0.0.1:8000", False),
        ("https://elsewhere.example", False),
        ("http://127.0.0.1:7860@elsewhere.example", False),
        ("null", False),
        ("", False),
    ],
)
def test_only_the_own_origin_passes(origin, passes):
    refusal = Access().refusal({"host": "127.0.0.1:7860", "origin": origin})
    assert refusal is None if passes else refusal is not None and refusal[0] == 403


@pytest.mark.parametrize(
    ("header", "passes"),
    [
        (basic("correct horse"), True),
        (basic("correct horse", user=""), True),
        (basic("correct hors"), False),
        (basic(""), False),
        (basic("correct horse").replace("Basic", "Bearer"), False),
        ("Basic ###", False),
        ("Basic \xff", False),
        ("", False),
    ],
)
def test_the_password_is_checked(header, passes):
    refusal = Access("127.0.0.1", "correct horse").refusal({"host": "localhost", "authorization": header})
    assert refusal is None if passes else refusal is not None and refusal[0] == 401


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.168.0.7", "gpu.lab.example"])
def test_a_network_address_demands_a_password_or_its_absence(host):
    with pytest.raises(UserError, match="state --password PASSWORD, or --no-password"):
        access(host, None, False)
    assert access(host, "correct horse", False).password == "correct horse"
    assert access(host, None, True).password is None


def test_this_machine_needs_no_password_but_may_have_one():
    assert all(is_loopback(host) for host in ("127.0.0.1", "127.0.0.2", "::1", "localhost"))
    assert access("127.0.0.1", None, False) == Access("127.0.0.1")
    assert access("127.0.0.1", "correct horse", False).password == "correct horse"


def test_contradicting_options_and_short_passwords_are_errors():
    with pytest.raises(UserError, match="exclude each other"):
        access("0.0.0.0", "correct horse", True)
    with pytest.raises(UserError, match="The password has 5 characters; --password takes at least 8"):
        access("0.0.0.0", "horse", False)


@pytest.mark.parametrize("command", [("web",), ("webcam", "depth")])
def test_both_commands_demand_a_password_before_anything_is_loaded(run, monkeypatch, command):
    monkeypatch.delenv("DENSEVISION_PASSWORD", raising=False)
    monkeypatch.setattr("densevision.tasks.inference.load", lambda *_: pytest.fail("a model was loaded"))
    assert "state --password PASSWORD, or --no-password" in run(*command, "--host", "0.0.0.0").error
    monkeypatch.setenv("DENSEVISION_PASSWORD", "short")
    assert "The password has 5 characters" in run(*command, "--host", "0.0.0.0").error
