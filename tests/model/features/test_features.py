"""Filter banks against Kaldi's own arithmetic, lengths, padding, and normalization."""

import math

import kaldi_native_fbank
import numpy as np
import pytest
import soundfile
import torch
import torchaudio.compliance.kaldi

from asr.errors import UserError
from asr.model.features import Features
from asr.model.features.filter_bank import FilterBank
from asr.model.features.normalization import Normalization

SENTENCES = (
    "The committee voted late on Thursday to keep interest rates where they are.",
    "She sells sea shells; he buys fish and chips.",
)


def synthetic_speech(sample_rate: int) -> np.ndarray:
    """(samples,) float32: a gliding voice with three resonances, hiss, and near silence between them."""
    generator = np.random.default_rng(7)
    time = np.arange(int(1.5 * sample_rate)) / sample_rate
    phase = 2 * math.pi * np.cumsum(120 + 40 * np.sin(2 * math.pi * 1.5 * time)) / sample_rate
    voice = sum(
        np.sin(k * phase) * sum(math.exp(-(((120 * k - f) / 150) ** 2)) for f in (500, 1500, 2500))
        for k in range(1, 28)
    )
    envelope = np.clip(np.sin(2 * math.pi * 2 * time), 0, None)
    hiss = generator.standard_normal(len(time)) * np.clip(-np.sin(2 * math.pi * 2 * time), 0, None) ** 8
    return (0.08 * voice * envelope + 0.03 * hiss + 2e-4 * generator.standard_normal(len(time)) + 0.01).astype(
        "float32"
    )


@pytest.fixture(scope="module", params=[8000, 16000])
def recordings(request, tmp_path_factory):
    """(sample rate, waveforms as read from 16-bit FLAC files): a synthetic voice, and eSpeak's where it is installed."""
    sample_rate, sounds = request.param, [synthetic_speech(request.param)]
    try:
        from asr.text.espeak import synthesize

        spoken = [synthesize(text, "en-us", rate=170, pitch=50, pitch_range=50, seed=1) for text in SENTENCES]
    except UserError:
        spoken = []
    for utterance in spoken:
        samples = torch.from_numpy(utterance.samples.copy()).float() / 32768
        sounds.append(
            torchaudio.functional.resample(samples, utterance.sample_rate, sample_rate).clamp(-1, 0.9999).numpy()
        )
    waveforms = []
    for number, sound in enumerate(sounds):
        path = tmp_path_factory.mktemp("audio") / f"{number}.flac"
        soundfile.write(path, sound, sample_rate, subtype="PCM_16")
        waveforms.append(torch.from_numpy(soundfile.read(path, dtype="float32")[0]))
    return sample_rate, waveforms


def kaldi_native(waveform: torch.Tensor, sample_rate: int, mels: int) -> torch.Tensor:
    options = kaldi_native_fbank.FbankOptions()
    options.frame_opts.dither, options.frame_opts.samp_freq, options.mel_opts.num_bins = 0.0, sample_rate, mels
    extractor = kaldi_native_fbank.OnlineFbank(options)
    extractor.accept_waveform(sample_rate, (waveform * 32768).numpy())
    extractor.input_finished()
    return torch.from_numpy(np.stack([extractor.get_frame(index) for index in range(extractor.num_frames_ready)]))


def torchaudio_kaldi(waveform: torch.Tensor, sample_rate: int, mels: int) -> torch.Tensor:
    return torchaudio.compliance.kaldi.fbank(
        waveform[None] * 32768, num_mel_bins=mels, sample_frequency=float(sample_rate), dither=0.0
    )


def batch(waveforms, padding: float = 0.0, extra: int = 0):
    lengths = torch.tensor([len(waveform) for waveform in waveforms])
    padded = torch.full((len(waveforms), int(lengths.max()) + extra), padding)
    for row, waveform in zip(padded, waveforms):
        row[: len(waveform)] = waveform
    return padded, lengths


@pytest.mark.parametrize("reference", [kaldi_native, torchaudio_kaldi])
@pytest.mark.parametrize("mels", [40, 80])
def test_filter_banks_equal_kaldis_within_a_thousandth(recordings, mels, reference):
    sample_rate, waveforms = recordings
    features, lengths = FilterBank(sample_rate, mels)(*batch(waveforms))
    for waveform, ours, frames in zip(waveforms, features, lengths.tolist()):
        expected = reference(waveform, sample_rate, mels)
        assert expected.shape == (frames, mels)
        difference = (ours[:frames] - expected).abs()
        # Further down, a quiet band holds float32's rounding of the loud ones: there the two references differ as much
        # from each other (in 0.2 % of the values of this audio) as ours from either.
        within_70_decibels = expected > expected.amax(dim=1, keepdim=True) - 7 * math.log(10)
        assert difference[within_70_decibels].max() < 1e-3
        assert (difference < 1e-3).float().mean() > 0.997


def test_digital_silence_is_the_logarithm_of_the_floor():
    features, _ = FilterBank()(torch.zeros(1, 16000), torch.tensor([16000]))
    torch.testing.assert_close(features, torch.full((1, 98, 40), math.log(torch.finfo(torch.float32).eps)))


def test_a_constant_offset_changes_nothing():
    waveform = torch.from_numpy(synthetic_speech(16000))[None]
    filter_bank, lengths = FilterBank(), torch.tensor([waveform.shape[1]])
    torch.testing.assert_close(
        filter_bank(waveform + 0.05, lengths)[0], filter_bank(waveform, lengths)[0], atol=5e-3, rtol=0
    )


@pytest.mark.parametrize("padding", [0.0, 0.5, float("nan")])
def test_padding_never_changes_a_valid_frame_and_comes_out_as_zeros(recordings, padding):
    sample_rate, waveforms = recordings
    waveforms = [waveforms[0], waveforms[0][: sample_rate // 2], waveforms[-1][: sample_rate // 3]]
    features = Features(sample_rate).eval()
    together, lengths = features(*batch(waveforms, padding, extra=777))
    for waveform, ours, frames in zip(waveforms, together, lengths.tolist()):
        alone, length = features(waveform[None], torch.tensor([len(waveform)]))
        assert length.tolist() == [frames] and alone.shape[1] == frames
        torch.testing.assert_close(ours[:frames], alone[0], atol=1e-4, rtol=1e-5)
        assert (ours[frames:] == 0).all()


@pytest.mark.parametrize("sample_rate", [8000, 16000, 22050, 44100])
def test_lengths_are_exact_down_to_no_frame_at_all(sample_rate):
    filter_bank = FilterBank(sample_rate)
    window, hop = filter_bank.window_samples, filter_bank.hop_samples
    for samples in (0, 1, window - 1, window, window + hop - 1, window + hop, window + 7 * hop + 3):
        features, lengths = filter_bank(torch.zeros(1, samples), torch.tensor([samples]))
        expected = kaldi_native_frames(samples, sample_rate)
        assert filter_bank.frames_of(samples) == lengths.item() == features.shape[1] == expected
    assert filter_bank.frame_shift == hop / sample_rate == pytest.approx(0.010, rel=5e-3)


def kaldi_native_frames(samples: int, sample_rate: int) -> int:
    options = kaldi_native_fbank.FbankOptions()
    options.frame_opts.samp_freq = sample_rate
    extractor = kaldi_native_fbank.OnlineFbank(options)
    extractor.accept_waveform(sample_rate, np.zeros(samples, dtype="float32"))
    extractor.input_finished()
    return extractor.num_frames_ready


def test_the_same_input_gives_the_same_output_and_torchs_threads_stay_as_they_were():
    waveforms, lengths = torch.rand(3, 20000) - 0.5, torch.tensor([20000, 15000, 9000])
    filter_bank, before = FilterBank(dither=1.0).eval(), torch.get_num_threads()
    assert torch.equal(filter_bank(waveforms, lengths)[0], filter_bank(waveforms, lengths)[0])
    assert torch.get_num_threads() == before


def test_dither_acts_in_training_only_and_lifts_digital_silence():
    waveforms, lengths = torch.zeros(1, 16000), torch.tensor([16000])
    filter_bank = FilterBank(dither=1.0)
    torch.manual_seed(1)
    assert filter_bank.train()(waveforms, lengths)[0].min() > -12
    assert filter_bank.eval()(waveforms, lengths)[0].max() < -15


def test_features_stay_float32_inside_under_autocast_and_in_a_half_precision_model():
    waveforms, lengths = torch.from_numpy(synthetic_speech(16000))[None], torch.tensor([24000])
    expected, _ = Features(16000).eval()(waveforms, lengths)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(Features(16000).eval()(waveforms, lengths)[0], expected)
    torch.testing.assert_close(Features(16000).half().eval()(waveforms, lengths)[0], expected)


def test_fast_matrix_products_are_for_the_model_and_not_for_the_features():
    waveforms, lengths = torch.from_numpy(synthetic_speech(16000))[None], torch.tensor([24000])
    expected, _ = FilterBank()(waveforms, lengths)
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        torch.testing.assert_close(FilterBank()(waveforms, lengths)[0], expected)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)


def test_normalization_by_utterance_gives_mean_zero_and_variance_one_over_valid_frames():
    lengths = torch.tensor([50, 20, 1, 0])
    features = Normalization(40)(5 + 3 * torch.randn(4, 50, 40), lengths)
    for row, frames in zip(features[:2], lengths.tolist()):
        torch.testing.assert_close(row[:frames].mean(dim=0), torch.zeros(40), atol=1e-5, rtol=0)
        torch.testing.assert_close(row[:frames].var(dim=0, correction=0), torch.ones(40), atol=1e-4, rtol=0)
    assert (features[1, 20:] == 0).all() and (features[2:] == 0).all()


def test_global_statistics_are_those_of_the_training_split_and_are_saved_with_the_model():
    generator = torch.Generator().manual_seed(3)
    batches = [
        (0.1 * torch.randn(3, samples, generator=generator), torch.tensor([samples, samples // 2, 300]))
        for samples in (8000, 16000)
    ]
    features = Features(16000, normalization="global").eval()
    assert features.wants_statistics
    features.gather_statistics(batches)
    assert not features.wants_statistics
    frames = torch.cat([row[:n] for x, lengths in batches for row, n in zip(*FilterBank()(x, lengths))]).double()
    torch.testing.assert_close(features.normalization.mean.double(), frames.mean(dim=0), atol=1e-5, rtol=1e-6)
    torch.testing.assert_close(
        features.normalization.variance.double(), frames.var(0, correction=0), atol=1e-5, rtol=1e-5
    )

    again = Features(**features.settings()).eval()
    again.load_state_dict(features.state_dict())
    assert not again.wants_statistics
    assert torch.equal(again(*batches[0])[0], features(*batches[0])[0])
    assert (again(*batches[0])[0][2] == 0).all()


def test_nothing_but_global_statistics_goes_into_a_checkpoint():
    assert not Features(16000, speed_perturbation=[0.9, 1.1], spec_augment={}).state_dict()


def test_settings_build_the_same_features_again():
    features = Features(
        8000, mels=80, speed_perturbation=(0.9, 1), spec_augment={"time_masks": 3}, normalization="none"
    )
    assert Features(**features.settings()).settings() == features.settings()
    assert (features.mels, features.sample_rate, features.frame_shift) == (80, 8000, 0.01)


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"mels": 200}, "features.mels=200 is too many"),
        ({"hop_seconds": 0.0}, "less than a sample"),
        ({"normalization": "utterence"}, "did you mean utterance"),
        ({"speed_perturbation": [0.9, 110]}, "110 is not a speed"),
        ({"spec_augment": {"time_share": 5}}, "time_share from 0 to 1"),
        ({"spec_augment": {"time_mask": 2}}, "time_mask"),
    ],
)
def test_settings_that_do_not_work_get_a_sentence(settings, words):
    with pytest.raises(UserError, match=words.replace("(", r"\(")):
        Features(8000, **settings)
