"""Which device work runs on, by the name that the user gives."""

import pytest
import torch

from asr.errors import UserError
from asr.runtime.devices import choose_device, device_of, on_gpu


@pytest.mark.parametrize("there", [False, True], ids=["without a GPU", "with a GPU"])
@pytest.mark.parametrize("name", ["auto", "gpu", "cuda", "cpu"])
def test_a_gpu_is_used_if_there_is_one_unless_the_cpu_is_asked_for(name, there, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    gpu = there and name != "cpu"
    assert on_gpu(name) is gpu
    assert device_of(name) == (torch.device("cuda", 1) if gpu else torch.device("cpu"))


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("cuda", "device=cuda needs a GPU, but PyTorch sees none here: use device=cpu"),
        ("gpu", "auto, cpu or cuda, not 'gpu'"),
    ],
)
def test_a_missing_device_is_refused(name, sentence, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match=sentence):
        choose_device(name)
    assert choose_device("auto") == choose_device("cpu") == torch.device("cpu")
