"""Peak memory: what a stretch of work needed beyond what was held before."""

from pathlib import Path

import pytest
import torch

from asr.runtime.memory import PeakMemory

pytestmark = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the kernel keeps no peak here")
MEBIBYTE = 2**20


def test_memory_that_was_freed_again_counts_and_memory_held_before_does_not():
    before = torch.ones(64 * MEBIBYTE // 4)
    with PeakMemory(torch.device("cpu")) as memory:
        (torch.ones(128 * MEBIBYTE // 4) + 1).sum()
    # the kernel counts resident pages a little late
    assert 250 * MEBIBYTE <= memory.bytes < 300 * MEBIBYTE
    assert before.sum() > 0


def test_the_same_work_measures_alike_when_it_is_done_again():
    measured = []
    for _ in range(3):
        with PeakMemory(torch.device("cpu")) as memory:
            [torch.ones(MEBIBYTE // 16) for _ in range(100)]
        measured.append(memory.bytes / MEBIBYTE)
    assert max(measured) - min(measured) < 8 and min(measured) > 20
