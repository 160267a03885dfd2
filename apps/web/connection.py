"""An HTTP connection of uvicorn that is closed when its client is slow: an idle connection costs the server memory."""

from __future__ import annotations

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEADER_SECONDS = 10
"""Seconds in which the header of a request has to be complete."""
BODY_SECONDS = 120
"""Seconds in which the body of a request has to be complete: 25 MB at 2 Mbit/s."""
UNREAD_SECONDS = 30
"""Seconds in which a client has to read what is sent to it."""

_SECONDS = {h11.IDLE: HEADER_SECONDS, h11.SEND_BODY: BODY_SECONDS}
"""Seconds by what the client is to send: the next header, or the body."""


class Connection(H11Protocol):
    """The connection; how it is parsed is uvicorn's."""

    _awaited: object = None
    _timer: asyncio.TimerHandle | None = None
    _unread_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch()

    def handle_events(self) -> None:
        super().handle_events()
        self._watch()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unread_timer = self.loop.call_later(UNREAD_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        _cancel(self._unread_timer)

    def connection_lost(self, exc: Exception | None) -> None:
        _cancel(self._timer)
        _cancel(self._unread_timer)
        super().connection_lost(exc)

    def _watch(self) -> None:
        """Start the timer for what the client is to send now, unless it is still the same."""
        if self.conn.their_state is not self._awaited:
            self._awaited = self.conn.their_state
            _cancel(self._timer)
            seconds = _SECONDS.get(self._awaited)
            self._timer = self.loop.call_later(seconds, self.transport.abort) if seconds else None


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
