"""Memory: the peak of a stretch of work, beyond what was held before, and what is still free."""

from pathlib import Path

import pytest
import torch

from asr.runtime import memory as memory_module
from asr.runtime.memory import PeakMemory, free_memory

pytestmark = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the kernel keeps no peak here")
MEBIBYTE = 2**20


def test_freed_memory_counts_and_memory_held_before_does_not():
    before = torch.ones(64 * MEBIBYTE // 4)
    with PeakMemory(torch.device("cpu")) as memory:
        (torch.ones(128 * MEBIBYTE // 4) + 1).sum()
    # the kernel updates its count of resident pages with a delay
    assert 250 * MEBIBYTE <= memory.bytes < 300 * MEBIBYTE
    assert before.sum() > 0


def test_the_same_work_measures_alike_when_repeated():
    measured = []
    for _ in range(3):
        with PeakMemory(torch.device("cpu")) as memory:
            [torch.ones(MEBIBYTE // 16) for _ in range(100)]
        measured.append(memory.bytes / MEBIBYTE)
    assert max(measured) - min(measured) < 8 and min(measured) > 20


def test_free_memory_is_limited_by_machine_control_group_and_address_space(tmp_path, monkeypatch):
    cpu, group = torch.device("cpu"), tmp_path / "group"
    monkeypatch.setattr(memory_module, "control_groups", lambda controller: [group])
    on_machine = free_memory(cpu)
    assert on_machine > 16 * MEBIBYTE
    group.mkdir()
    (group / "memory.max").write_text("max")
    (group / "memory.current").write_text(str(3 * MEBIBYTE))
    assert free_memory(cpu) > 16 * MEBIBYTE
    (group / "memory.max").write_text(str(8 * MEBIBYTE))
    assert free_memory(cpu) == 5 * MEBIBYTE
    (group / "memory.max").write_text(str(MEBIBYTE))
    assert free_memory(cpu) == 0
    monkeypatch.setattr("resource.getrlimit", lambda which: (0, 0))
    (group / "memory.max").write_text("max")
    assert free_memory(cpu) == 0
