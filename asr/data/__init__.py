"""From cuts to batches: checked, bucketed by duration, planned as a pure function of durations, seed, epoch and ranks."""
