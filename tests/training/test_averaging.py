"""Averages of weights: over the steps of a training, and over checkpoints."""

import pytest
import torch
from torch import nn

from asr.errors import UserError
from asr.training.averaging import MovingAverage, average_of_files
from asr.training.checkpoints import write_checkpoint


class Counting(nn.Module):
    """Two parameters and an integer buffer."""

    def __init__(self):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(3, 2)), nn.Parameter(torch.randn(2))
        self.register_buffer("seen", torch.tensor(7))


def walk(model, average, steps):
    """Takes random steps; returns the parameters after each."""
    walked = []
    for _ in range(steps):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter))
        average.update()
        walked.append([parameter.detach().clone() for parameter in model.parameters()])
    return walked


def test_the_moving_average_equals_its_formula():
    torch.manual_seed(0)
    model = Counting()
    average = MovingAverage(model, decay=0.8)
    expected = [parameter.detach().double() for parameter in model.parameters()]
    for step, parameters in enumerate(walk(model, average, 60)):
        decay = min(0.8, (1 + step) / (10 + step))
        expected = [decay * old + (1 - decay) * new for old, new in zip(expected, parameters)]
    assert (1 + 59) / (10 + 59) > 0.8, "both branches of the minimum were reached"
    for found, wanted in zip(average.average, expected):
        torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-5)


def test_swapping_exchanges_weights_and_average_and_twice_is_the_identity():
    torch.manual_seed(0)
    model = Counting()
    average = MovingAverage(model, decay=0.5)
    raw = walk(model, average, 5)[-1]
    averaged = [tensor.clone() for tensor in average.average]
    average.swap()
    assert all(torch.equal(own, wanted) for own, wanted in zip(model.parameters(), averaged))
    average.swap()
    assert all(torch.equal(own, wanted) for own, wanted in zip(model.parameters(), raw))
    assert all(torch.equal(own, wanted) for own, wanted in zip(average.average, averaged))
    assert not torch.equal(raw[0], averaged[0])


def test_the_average_resumes_from_its_state():
    torch.manual_seed(0)
    model, other = Counting(), Counting()
    average = MovingAverage(model, decay=0.9)
    walk(model, average, 4)
    resumed = MovingAverage(other, decay=0.9)
    state = {"steps": average.state()["steps"], "average": [tensor.clone() for tensor in average.state()["average"]]}
    resumed.load_state(state)
    other.load_state_dict(model.state_dict())
    for trained, weights in ((model, average), (other, resumed)):
        torch.manual_seed(1)
        walk(trained, weights, 3)
    assert all(torch.equal(one, two) for one, two in zip(average.average, resumed.average))


def test_the_average_of_checkpoints_is_the_mean_of_their_weights_and_leaves_whole_numbers_alone(tmp_path):
    torch.manual_seed(0)
    states = []
    for number in range(3):
        weights = {"half": torch.randn(5).half(), "weight": 1e4 * torch.randn(2, 3), "seen": torch.tensor(10 + number)}
        states.append(weights)
        write_checkpoint(tmp_path / f"{number}.ckpt", {"state_dict": weights})
    mean = average_of_files([tmp_path / f"{number}.ckpt" for number in range(3)])
    for name in ("half", "weight"):
        wanted = torch.stack([state[name].double() for state in states]).mean(0).to(states[0][name].dtype)
        assert mean[name].dtype == wanted.dtype and torch.equal(mean[name], wanted)
    assert mean["seen"].dtype == torch.int64 and mean["seen"] == 10


def test_a_truncated_checkpoint_is_not_averaged(tmp_path):
    write_checkpoint(tmp_path / "whole.ckpt", {"state_dict": {"weight": torch.ones(3)}})
    (tmp_path / "torn.ckpt").write_bytes((tmp_path / "whole.ckpt").read_bytes()[:300])
    with pytest.raises(UserError, match="torn.ckpt"):
        average_of_files([tmp_path / "whole.ckpt", tmp_path / "torn.ckpt"])
