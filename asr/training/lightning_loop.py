"""Every trick that is played on Lightning's loop, and why."""

from __future__ import annotations

import sys

# Epochs and validations are counted by `Position`, in batches, so that a run resumes anywhere. To Lightning the whole training is
# one epoch that never reaches its own validation interval.
ONE_LONG_EPOCH = {"max_epochs": 1, "val_check_interval": 2**62}


def validate_after_this_batch(trainer, wanted: bool) -> None:
    """Has Lightning validate after the current batch, or not: it does so where the batch's number is divisible by this."""
    trainer.val_check_batch = 1 if wanted else sys.maxsize


def validate_now(trainer) -> None:
    """Validates before the first step, as Lightning's loop would between two: a run was stopped just before its validation.

    `trainer.validate` cannot be called inside `fit`, so its inner loop is.
    """
    trainer.validating = True
    trainer.fit_loop.epoch_loop.val_loop.run()
    trainer.training = True
