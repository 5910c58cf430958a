"""Signals that end a program: what was begun is tidied up first, and what must not stop half-way goes on."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any

_KNOWN = [getattr(signal, name, None) for name in ("SIGTERM", "SIGHUP")]  # Windows has no SIGHUP
_ENDING = [one for one in _KNOWN if one is not None]
STATUS = 128  # plus the number of a signal: the exit status of what it ended, as a shell says it


@contextlib.contextmanager
def as_exits() -> Iterator[None]:
    """Within it SIGTERM and SIGHUP raise SystemExit; one that is ignored, as after nohup, stays so."""

    def leave(number: int, frame: Any) -> None:
        for one in _ENDING:
            signal.signal(one, signal.SIG_IGN)  # a second one would interrupt the tidying up
        raise SystemExit(STATUS + number)

    with _handled(leave, *(one for one in _ENDING if signal.getsignal(one) is not signal.SIG_IGN)):
        yield


@contextlib.contextmanager
def postponed() -> Iterator[None]:
    """Within it these signals, and Ctrl-C, wait; they are handled at its end."""
    caught: list[int] = []
    with _handled(lambda number, frame: caught.append(number), signal.SIGINT, *_ENDING):
        yield
    for number in caught:
        signal.raise_signal(number)


@contextlib.contextmanager
def _handled(handler: Any, *signals: signal.Signals) -> Iterator[None]:
    """Within it signals have this handler, if this is the thread that is interrupted by any."""
    is_main = threading.current_thread() is threading.main_thread()
    before = {one: signal.signal(one, handler) for one in signals if is_main}
    try:
        yield
    finally:
        for one, former in before.items():
            signal.signal(one, former or signal.SIG_DFL)
