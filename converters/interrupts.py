"""Signals that have to wait."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def postponed(*signals: signal.Signals) -> Iterator[None]:
    """Within it these signals wait; they are handled at its end."""
    if threading.current_thread() is not threading.main_thread():  # it is never interrupted
        yield
        return
    caught: list[int] = []
    before = {one: signal.signal(one, lambda number, frame: caught.append(number)) for one in signals}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler or signal.SIG_DFL)
        for number in caught:
            signal.raise_signal(number)
