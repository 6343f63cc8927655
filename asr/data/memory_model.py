"""The memory of a training step as a function of its batch's shape, and hence the largest batch for each length."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class MemoryModel:
    """bytes(batch of `n` utterances padded to `t` frames) = fixed + n · (linear · t + quadratic · t²).

    fixed: bytes of any step (gradients, optimizer, workspaces). linear: bytes per frame of an utterance.
    quadratic: bytes per pair of frames; 0 if the attention's memory is linear in time. budget: bytes available.
    """

    fixed: float
    linear: float
    quadratic: float
    budget: float

    def bytes(self, utterances, frames):
        """The predicted bytes of a batch. Takes numbers or arrays."""
        frames = np.asarray(frames, dtype=np.float64)
        return self.fixed + utterances * (self.linear * frames + self.quadratic * frames**2)

    def most(self, frames: np.ndarray) -> np.ndarray:
        """The largest batch that fits the budget when padded to `frames`; int64, 0 where not even one utterance fits."""
        each = np.maximum(self.bytes(1, frames) - self.fixed, 1.0)
        return np.maximum((self.budget - self.fixed) / each, 0).astype(np.int64)

    def as_data(self) -> dict[str, float]:
        return dataclasses.asdict(self)


def fit_memory(
    shapes: Sequence[tuple[int, int]], measured: Sequence[float], budget: float, quadratic: bool
) -> MemoryModel:
    """The tightest model that lies above every measurement.

    shapes: (utterances, frames) of the measured batches. measured: bytes of each. With too few to tell the terms apart,
    the model errs on the high side. quadratic: whether memory may grow with the square of the length.

    Non-negative least squares on relative errors, then scaled up until no measurement lies above the model.
    """
    utterances, frames = np.array(shapes, dtype=np.float64).T
    measured = np.maximum(np.asarray(measured, dtype=np.float64), 1.0)
    terms = np.stack([np.ones_like(frames), utterances * frames, utterances * frames**2], axis=1)
    if not quadratic:
        terms = terms[:, :2]
    if np.linalg.matrix_rank(terms / terms.max(axis=0)) < terms.shape[1]:
        # too few to tell the terms apart: let each explain everything alone, with nothing fixed
        each = [float(np.max(measured / term)) for term in terms.T[1:]]
        return MemoryModel(0.0, each[0], each[1] if quadratic else 0.0, float(budget))
    coefficients = non_negative_least_squares(terms / measured[:, None], np.ones_like(measured))
    excess = float(np.max(measured / np.maximum(terms @ coefficients, 1.0)))
    fixed, linear, square = [*(coefficients * max(1.0, excess)), 0.0][:3]
    return MemoryModel(float(fixed), float(linear), float(square), float(budget))


def non_negative_least_squares(terms: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The coefficients ≥ 0 with the least squared error: the best of all choices of terms, as there are at most three."""
    count = terms.shape[1]
    scale = np.maximum(np.abs(terms).max(axis=0), 1e-300)
    best, least = np.zeros(count), np.inf
    for choice in range(1, 2**count):
        columns = [column for column in range(count) if choice >> column & 1]
        found, *_ = np.linalg.lstsq(terms[:, columns] / scale[columns], wanted, rcond=None)
        error = float(np.sum((terms[:, columns] / scale[columns] @ found - wanted) ** 2))
        if (found >= 0).all() and error < least - 1e-12:
            best, least = np.zeros(count), error
            best[columns] = found / scale[columns]
    return best
