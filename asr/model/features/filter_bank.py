"""Log-mel filter banks equal to Kaldi's, for a whole batch at once, on the waveforms' device."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from asr.errors import UserError
from asr.model.features.float32 import KeepsFloat32
from asr.runtime.arithmetic import exact_products, one_thread

PRE_EMPHASIS = torch.tensor(0.97).item()  # rounded to float32, so that 1 - 0.97 matches the rounded product
LOWEST_FREQUENCY = 20.0  # Hz
LONGEST_WINDOW = 10.0  # seconds
INT16_SCALE = 32768.0  # Kaldi computes on 16-bit integers: it floors energies, and adds dither, at that scale
CPU_CHUNK, DEVICE_CHUNK = 256, 65536  # frames computed at once; on a CPU, what fits its cache


class FilterBank(KeepsFloat32):
    """Log-mel filter banks: Kaldi's `compute-fbank-feats` (feature-fbank.cc, feature-window.cc, mel-computations.cc).

    Each frame is made zero-mean, pre-emphasized (0.97), multiplied by the Povey window and padded to a power of two; its
    power spectrum is summed by triangles equally spaced in mel between 20 Hz and the Nyquist frequency, floored at the
    float32 epsilon, and its natural logarithm taken. Frames lie within the waveform (`snip_edges`), so an utterance
    shorter than one window has none. Samples are scaled as 16-bit integers, so that values equal Kaldi's on the same file:
    within 1e-3 for every band up to 70 dB below the frame's loudest; below that float32 rounding shows in both.
    """

    window: Tensor
    triangles: Tensor

    def __init__(
        self,
        sample_rate: int = 16000,
        mels: int = 40,
        window_seconds: float = 0.025,
        hop_seconds: float = 0.010,
        dither: float = 0.0,
    ):
        """sample_rate: Hz. mels: values per frame, one per triangle. dither: standard deviation of the noise added to the
        samples in training (never in evaluation), in 16-bit steps.

        Raises UserError, naming the key, for more triangles than the spectrum resolves, and for windows of less than two
        samples or more than 10 s.
        """
        super().__init__()
        if not isinstance(sample_rate, int) or not 1000 <= sample_rate <= 1_000_000:
            raise UserError(f"features.sample_rate={sample_rate!r} is not a sample rate in Hz, such as 16000.")
        if hop_seconds > LONGEST_WINDOW or window_seconds > LONGEST_WINDOW:
            raise UserError(
                f"features.window_seconds={window_seconds} and features.hop_seconds={hop_seconds}: more "
                f"than {LONGEST_WINDOW:g} s is too long for a frame of speech. Use seconds, such as 0.025 and 0.010."
            )
        self.sample_rate, self.mels, self.dither = sample_rate, mels, dither
        self.window_samples = math.floor(sample_rate * window_seconds + 1e-6)
        self.hop_samples = math.floor(sample_rate * hop_seconds + 1e-6)
        if self.window_samples < 2 or self.hop_samples < 1:
            raise UserError(
                f"Windows of {window_seconds} s every {hop_seconds} s are less than a sample at {sample_rate} Hz: "
                "set features.window_seconds and features.hop_seconds in seconds (0.025 and 0.010)."
            )
        self.fft_size = 2 ** math.ceil(math.log2(self.window_samples))
        triangles = mel_triangles(sample_rate, self.fft_size, min(mels, self.fft_size))
        if mels > self.fft_size or not triangles.any(dim=0).all():
            raise UserError(
                f"features.mels={mels} is too many at {sample_rate} Hz: some triangles contain no bin of the spectrum. "
                "Use fewer."
            )
        window = povey_window(self.window_samples) * INT16_SCALE
        # real and imaginary part of a bin share a weight, so that the product also adds their squares
        triangles = triangles.repeat_interleave(2, dim=0)
        self.register_buffer("window", window.float(), persistent=False)
        self.register_buffer("triangles", triangles.float().contiguous(), persistent=False)

    @property
    def frame_shift(self) -> float:
        """Seconds from one frame to the next."""
        return self.hop_samples / self.sample_rate

    def frames_of(self, samples):
        """The exact number of frames of `samples`. Takes and returns an int or an int64 tensor."""
        if isinstance(samples, Tensor):
            frames = torch.div(samples - self.window_samples, self.hop_samples, rounding_mode="floor") + 1
            return frames.clamp_min(0)
        return max(0, (samples - self.window_samples) // self.hop_samples + 1)

    @torch.no_grad()
    def forward(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """waveforms: (batch, samples) in [-1, 1), float32 or less; lengths: (batch,) int64, in samples.

        Returns features (batch, frames, mels) float32, zero after an utterance's end, and lengths (batch,) int64 frames.
        """
        # bfloat16 would be off by 5e-3 here
        with exact_products(), one_thread(waveforms.device):
            features = self._features(waveforms.float())
        frames = self.frames_of(lengths)
        behind = torch.arange(features.shape[1], device=lengths.device) >= frames[:, None]
        return features.masked_fill_(behind[:, :, None].to(features.device), 0.0), frames

    def _features(self, waveforms: Tensor) -> Tensor:
        batch, frames = waveforms.shape[0], self.frames_of(waveforms.shape[1])
        features = waveforms.new_empty(batch, frames, self.mels)
        if features.numel() == 0:
            return features
        if self.dither and self.training:
            waveforms = waveforms + torch.randn_like(waveforms) * (self.dither / INT16_SCALE)
        # Pre-emphasis of the whole waveform, not of each frame: they differ only in a frame's first sample, where the Povey
        # window is zero. Kaldi removes a frame's mean m first; after pre-emphasis that is (1 - 0.97) m.
        emphasized = torch.zeros_like(waveforms)
        torch.sub(waveforms[:, 1:], waveforms[:, :-1], alpha=PRE_EMPHASIS, out=emphasized[:, 1:])
        shape = (self.window_samples, self.hop_samples)
        means = waveforms.unfold(1, *shape).mean(dim=-1, keepdim=True).mul_(1 - PRE_EMPHASIS)
        emphasized = emphasized.unfold(1, *shape)
        step = max(1, (CPU_CHUNK if waveforms.device.type == "cpu" else DEVICE_CHUNK) // batch)
        padded = waveforms.new_zeros(batch, min(step, frames), self.fft_size)
        for first in range(0, frames, step):
            chunk = slice(first, min(first + step, frames))
            here = padded[:, : chunk.stop - first]
            windowed = here[..., : self.window_samples]
            torch.sub(emphasized[:, chunk], means[:, chunk], out=windowed)
            windowed.mul_(self.window)
            spectrum = torch.view_as_real(torch.fft.rfft(here)).flatten(-2)
            features[:, chunk] = spectrum.square_() @ self.triangles
        return features.clamp_min_(torch.finfo(torch.float32).eps).log_()


def povey_window(samples: int) -> Tensor:
    """(samples,) float64: a Hann window to the power of 0.85, zero at both ends (Kaldi, feature-window.cc)."""
    return torch.hann_window(samples, periodic=False, dtype=torch.float64).pow(0.85)


def mel_triangles(sample_rate: int, fft_size: int, mels: int) -> Tensor:
    """(fft_size / 2 + 1, mels) float32: the weight of each bin of the power spectrum in each triangle.

    Triangles are linear in mel, 1127 ln(1 + Hz / 700), unnormalized, and leave out the Nyquist bin (Kaldi,
    mel-computations.cc). In float32 and in Kaldi's order: the weight of a bin at a triangle's edge is mostly rounding.
    """
    bins = mel(torch.arange(fft_size // 2) * (sample_rate / fft_size))[:, None]
    lowest, highest = mel(torch.tensor(LOWEST_FREQUENCY)), mel(torch.tensor(sample_rate / 2))
    step = (highest - lowest) / (mels + 1)
    index = torch.arange(mels)
    left, center, right = lowest + index * step, lowest + (index + 1.0) * step, lowest + (index + 2.0) * step
    triangles = torch.minimum((bins - left) / (center - left), (right - bins) / (right - center)).clamp_min(0.0)
    return torch.cat([triangles, triangles.new_zeros(1, mels)])


def mel(hertz: Tensor) -> Tensor:
    return 1127.0 * (1.0 + hertz / 700.0).log()
