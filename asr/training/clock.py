"""Time spent training, and the share of it spent waiting for data."""

from __future__ import annotations

import time


class Clock:
    """Runs from `start` on. Validations count as training time, but neither as waiting nor as working."""

    def __init__(self) -> None:
        self._started: float | None = None
        self._lap_started = self._idle_since = 0.0
        self._waited = 0.0

    def start(self, seconds: float) -> None:
        """seconds: spent training before this process started."""
        self._started = time.monotonic() - seconds
        self._lap_started = self._idle_since = time.monotonic()

    @property
    def running(self) -> bool:
        return self._started is not None

    def seconds(self) -> float:
        """Seconds spent training, including those before an interruption."""
        return time.monotonic() - self._started if self._started is not None else 0.0

    def batch_arrived(self) -> None:
        self._waited += time.monotonic() - self._idle_since

    def batch_done(self) -> None:
        self._idle_since = time.monotonic()

    def lap(self) -> float:
        """Seconds since the last validation."""
        return time.monotonic() - self._lap_started

    def waiting(self) -> float:
        """Share of the time since the last validation that was spent waiting for data."""
        return self._waited / max(1e-9, self.lap()) if self.running else 0.0

    def new_lap(self) -> None:
        """Starts counting anew, after a validation."""
        self._idle_since = self._lap_started = time.monotonic()
        self._waited = 0.0
