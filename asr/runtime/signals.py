"""Signals that ask a training to stop: it ends the step it is in, keeps a checkpoint and exits."""

from __future__ import annotations

import signal
import threading

# Ctrl-C; what SLURM, spot machines and `kill` send; what `sbatch --signal=USR1@120` sends
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class StopSignals:
    """Remembers, inside a `with` block, that a signal came instead of dying of it. A second Ctrl-C stops at once."""

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
        """Takes the signals (again, after a library has taken them). Only a main thread can; others are left alone."""
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                signal.signal(number, self._remember)

    def _remember(self, number: int, _frame) -> None:
        if self.received is signal.SIGINT and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = signal.Signals(number)

    @property
    def name(self) -> str:
        """What a user calls the signal; another process may be the one that got it."""
        return {signal.SIGINT: "Ctrl-C", None: "a signal"}.get(self.received) or self.received.name

    @property
    def exit_code(self) -> int:
        return 128 + (self.received or signal.SIGTERM)
