"""Command line and demos."""

LOOPBACK = ("127.0.0.1", "localhost", "::1")
"""Host names of this machine: what servers bind to by default."""
