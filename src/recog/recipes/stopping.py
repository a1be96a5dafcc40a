"""Ctrl-C and SIGTERM during training: noted, and heeded between two steps, where all that was learnt can be kept."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType, TracebackType

EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}  # 128 + the signal's number, as a shell reports it


class StopAsked(Exception):  # noqa: N818  caught by the training loop, which then keeps what it has
    """Raised within `StopSignal.at_once` where a stop is asked for."""


class StopSignal:
    """While entered, the first SIGINT or SIGTERM is noted in `asked`; a second SIGINT raises KeyboardInterrupt at once.

    Outside the main thread, where Python takes no signals, it notes nothing.
    """

    def __init__(self) -> None:
        self.asked: signal.Signals | None = None
        self._at_once = False
        self._before: dict[signal.Signals, signal._HANDLER] = {}

    def __enter__(self) -> StopSignal:
        if threading.current_thread() is threading.main_thread():
            for number in EXIT_CODES:
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """Raise StopAsked within the block, which changes nothing that would have to be kept, instead of waiting for its end."""
        self._at_once = True
        try:
            if self.asked is not None:
                raise StopAsked
            yield
        finally:
            self._at_once = False

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.asked is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = self.asked or signal.Signals(number)
        if self._at_once:
            self._at_once = False  # once: the way out must not be interrupted by a second SIGTERM
            raise StopAsked
