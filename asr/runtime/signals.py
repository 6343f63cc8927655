"""Signals that ask a training to stop: it finishes its step, writes a checkpoint and exits."""

from __future__ import annotations

import signal
import threading

# SIGINT: Ctrl-C; SIGTERM: from SLURM, spot machines and `kill`; SIGUSR1: from `sbatch --signal=USR1@120`
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class StopSignals:
    """Inside a `with` block, records a signal instead of dying from it. A second Ctrl-C stops at once."""

    def __init__(self):
        self.received: signal.Signals | None = None

    def __enter__(self) -> StopSignals:
        self._before = {number: signal.getsignal(number) for number in SIGNALS}
        self.install()
        return self

    def __exit__(self, *_) -> None:
        if threading.current_thread() is threading.main_thread():
            for number, handler in self._before.items():
                signal.signal(number, handler if handler is not None else signal.SIG_DFL)

    def install(self) -> None:
        """Installs the handlers; again, after a library has installed its own. Does nothing outside the main thread."""
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                signal.signal(number, self._remember)

    def _remember(self, number: int, _frame) -> None:
        if self.received is signal.SIGINT and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = signal.Signals(number)

    @property
    def name(self) -> str:
        """What a user calls the signal; "a signal" if another process received it."""
        if self.received is None:
            return "a signal"
        return "Ctrl-C" if self.received is signal.SIGINT else self.received.name

    @property
    def exit_code(self) -> int:
        return 128 + (self.received or signal.SIGTERM)
