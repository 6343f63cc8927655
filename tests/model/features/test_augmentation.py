"""What happens to features and waveforms in training only."""

import pytest
import torch

from asr.model.features import Features
from asr.model.features.augment import SpecAugment, SpeedPerturbation, samples_at


def runs(mask: torch.Tensor) -> list[int]:
    """The lengths of the stretches of True in a 1-D mask."""
    stretches = "".join("x" if value else " " for value in mask.tolist()).split()
    return [len(stretch) for stretch in stretches]


def test_masks_are_no_wider_than_asked_and_lie_within_each_utterance():
    torch.manual_seed(1)
    lengths = torch.tensor([200, 100, 40, 0])
    features = torch.ones(4, 200, 40)
    augment = SpecAugment(frequency_masks=1, frequency_width=8, time_masks=1, time_share=0.1).train()
    widest_band, longest = 0, torch.zeros(4, dtype=torch.int64)
    for _ in range(200):
        masked = augment(features, lengths) == 0
        for row, frames in enumerate(lengths.tolist()):
            in_time, in_frequency = masked[row].all(dim=1), masked[row].all(dim=0)
            assert torch.equal(masked[row], in_time[:, None] | in_frequency)
            assert len(runs(in_time)) <= 1 and len(runs(in_frequency)) <= 1
            assert not in_time[frames:].any()
            longest[row] = max(longest[row], int(in_time.sum()))
            widest_band = max(widest_band, int(in_frequency.sum()))
    assert longest.tolist() == [20, 10, 4, 0] and widest_band == 8


def test_every_utterance_gets_masks_of_its_own_and_the_seed_decides_them():
    features, lengths = torch.ones(8, 120, 40), torch.full((8,), 120)
    augment = SpecAugment(time_share=0.2).train()
    torch.manual_seed(5)
    first, second = augment(features, lengths), augment(features, lengths)
    torch.manual_seed(5)
    assert torch.equal(augment(features, lengths), first)
    assert not torch.equal(first, second)
    assert len({tuple((row == 0).flatten().tolist()) for row in first}) > 1


def test_every_place_is_masked_about_equally_often_as_it_can_be():
    torch.manual_seed(2)
    masked = SpecAugment(0, 0, 1, 0.1).train()(torch.ones(20000, 100, 1), torch.full((20000,), 100))[:, :, 0] == 0
    inner = masked.float().mean(dim=0)[10:90]
    assert inner.mean().item() == pytest.approx(5 / 95, rel=0.05)
    assert inner.std() < 0.005


@pytest.mark.parametrize("kind", ["utterance", "global", "none"])
def test_evaluation_is_never_augmented(kind):
    features = Features(
        16000, normalization=kind, speed_perturbation=[0.9], spec_augment={"time_share": 0.5}, dither=1.0
    )
    plain = Features(16000, normalization=kind)
    batch = 0.1 * torch.randn(2, 16000), torch.tensor([16000, 12000])
    for ours, expected in zip(features.eval()(*batch), plain.eval()(*batch)):
        assert torch.equal(ours, expected)
    assert not torch.equal(features.train()(*batch)[1], plain(*batch)[1])


@pytest.mark.parametrize("factor", [0.9, 1.1, 1.05])
def test_a_faster_tone_is_shorter_and_higher(factor):
    tone = torch.sin(2 * torch.pi * 440 * torch.arange(16000) / 16000)
    waveforms, lengths = SpeedPerturbation([factor]).train()(torch.stack([tone, tone]), torch.tensor([16000, 8000]))
    assert lengths[0] == waveforms.shape[1] == pytest.approx(16000 / factor, abs=1)
    assert lengths[1] == pytest.approx(8000 / factor, abs=1)
    spectrum = torch.fft.rfft(waveforms[0] * torch.hann_window(waveforms.shape[1])).abs()
    assert spectrum.argmax().item() * 16000 / waveforms.shape[1] == pytest.approx(440 * factor, abs=1.5)


def test_speed_perturbation_of_a_padded_batch_is_that_of_each_utterance():
    waveforms, lengths = 0.1 * torch.randn(2, 16000), torch.tensor([16000, 7001])
    waveforms[1, 7001:] = 0
    perturb = SpeedPerturbation([1.1]).train()
    together, faster = perturb(waveforms, lengths)
    alone, length = perturb(waveforms[1:, :7001], lengths[1:])
    assert length.tolist() == [faster[1].item()] == [alone.shape[1]]
    torch.testing.assert_close(together[1, : length.item()], alone[0])


def test_each_batch_gets_one_of_the_speeds():
    torch.manual_seed(1)
    perturb = SpeedPerturbation([0.9, 1.0, 1.1]).train()
    seen = {perturb(torch.zeros(1, 1100), torch.tensor([1100]))[1].item() for _ in range(40)}
    assert seen == {1223, 1100, 1000}


def test_the_fewest_frames_of_an_utterance_are_those_at_the_fastest_speed():
    features = Features(16000, speed_perturbation=[0.9, 1.1], normalization="none")
    fastest = Features(16000, speed_perturbation=[1.1], normalization="none").train()
    for samples in (100, 399, 440, 5000, 16001, 17600):
        frames = fastest(torch.zeros(1, samples), torch.tensor([samples]))[1].item()
        assert features.fewest_frames_of(samples) == frames <= features.frames_of(samples)
        assert features.fewest_frames_of(torch.tensor([samples])).tolist() == [frames]
    slower = Features(16000, speed_perturbation=[0.9])
    assert slower.fewest_frames_of(8000) == slower.frames_of(8000)


def test_lengths_at_a_speed_are_the_same_for_numbers_and_tensors():
    for speed in SpeedPerturbation([0.9, 1.0, 1.1]).speeds:
        samples = torch.arange(0, 500)
        assert samples_at(samples, speed).tolist() == [samples_at(count, speed) for count in samples.tolist()]
