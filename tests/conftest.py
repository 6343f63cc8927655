import os

import pytest

# one thread a process: the tests run in several processes side by side
os.environ.setdefault("OMP_NUM_THREADS", "1")

POISONED = {"test_gpu_clustered", "test_gpu_selection", "test_gpu_topk", "test_gpu_lsh", "test_gpu_program_order"}


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
