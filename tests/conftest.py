import os
from functools import cache
from pathlib import Path

import pytest

# one thread a process: the tests run in several processes side by side
os.environ.setdefault("OMP_NUM_THREADS", "1")

TIERS = ("unit", "run", "soak")
POISONED = {
    "test_gpu_clustered", "test_gpu_denominator", "test_gpu_selection", "test_gpu_topk", "test_gpu_lsh", "test_gpu_program_order",
}  # fmt: skip


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    """A test that is marked with no tier is a unit test. Soak tests run only where `-m` asks for them."""
    for item in items:
        if not any(item.get_closest_marker(tier) for tier in TIERS):
            item.add_marker("unit")
    if "soak" not in config.option.markexpr:
        kept = [item for item in items if not item.get_closest_marker("soak")]
        config.hook.pytest_deselected(items=[item for item in items if item not in kept])
        items[:] = kept


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """With `-n`, tests that share something made once for their file stay in one process, where it is made once."""
    if config.getvalue("dist") != "load":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return nodeid.partition("::")[0] if shares(nodeid.partition("::")[0]) else nodeid.partition("[")[0]

    return Scheduling(config, log)


@cache
def shares(file: str) -> bool:
    """Whether a file has a fixture that is made once for all of its tests."""
    return 'scope="module"' in (Path(__file__).parents[1] / file).read_text(encoding="utf8")


@pytest.fixture(autouse=True)
def poisoned_memory(request, monkeypatch):
    """Fills every fresh tensor with NaN in the tests of kernels, so that reading what no kernel has written shows."""
    if request.path.stem not in POISONED:
        yield
        return
    import torch

    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)
