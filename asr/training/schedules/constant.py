"""The base rate throughout."""

from __future__ import annotations

from asr.training.schedules.base import Schedule


class Constant(Schedule):
    """Linear warm-up, then the base rate."""

    name = "constant"
