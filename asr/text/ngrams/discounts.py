"""The discounts of modified Kneser-Ney (Chen and Goodman 1998, equation 26)."""

from __future__ import annotations

import dataclasses

import numpy

# For counts of counts that allow no estimate: the discounts of `lmplz --discount_fallback`.
FALLBACK = (0.5, 1.0, 1.5)


@dataclasses.dataclass(frozen=True)
class Discounts:
    """The discounts of a count of 1, 2, and 3 or more. estimated: by Chen and Goodman's (26); otherwise the fallback."""

    amounts: tuple[float, float, float]
    estimated: bool

    @classmethod
    def of(cls, counts: numpy.ndarray) -> Discounts:
        """Estimates them from the counts of counts.

        Falls back if any of n1, n2, n3 is zero or a discount is not above 0 and at most its count, as happens in texts of a
        few sentences and in generated ones.
        """
        n = numpy.bincount(counts[(counts > 0) & (counts < 5)], minlength=5).astype(float)
        if n[1:4].all():
            y = n[1] / (n[1] + 2 * n[2])
            amounts = [float(j - (j + 1) * y * n[j + 1] / n[j]) for j in (1, 2, 3)]
            if all(0 < amount <= j for j, amount in enumerate(amounts, start=1)):
                return cls((amounts[0], amounts[1], amounts[2]), True)
        return cls(FALLBACK, False)

    def take(self, counts: numpy.ndarray) -> numpy.ndarray:
        """The discount of each count, float64; 0 for a count of 0."""
        return numpy.array((0.0, *self.amounts))[numpy.minimum(counts, 3)]
