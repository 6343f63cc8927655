"""Learning-rate schedules, as factors of the base rate: `optimizer.lr` times the factor is the rate of a step.

A schedule is a file here plus `conf/schedule/<name>.yaml`.
"""

from asr.registry import Registry

schedules = Registry("asr.training.schedules", "schedule")
