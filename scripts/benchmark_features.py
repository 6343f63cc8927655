"""Benchmarks the filter banks on a CPU against kaldi-native-fbank's and torchaudio's: a Markdown table.

    python scripts/benchmark_features.py [--seconds 8] [--utterances 16] [--rounds 15]

One batch of utterances of the same length, so that nothing is padded; the three take turns in each round, and the median round
counts. kaldi-native-fbank computes one utterance at a time (reading its frames, which would take longer, is left out), with
utterances spread over the threads. torchaudio computes one at a time.
"""

from __future__ import annotations

import argparse
import contextlib
import platform
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from asr.model.features.filter_bank import INT16_SCALE, FilterBank  # noqa: E402


def contestants(
    waveforms: torch.Tensor, sample_rate: int, mels: int, threads: int, lengths: torch.Tensor | None = None
) -> dict[str, Callable[[], None]]:
    """The installed implementations, as functions that compute features of waveforms (batch, samples).

    lengths: (batch,) valid samples; only ours computes on padding too. None for no padding.
    """
    filter_bank = FilterBank(sample_rate, mels).eval()
    if lengths is None:
        lengths = torch.full((len(waveforms),), waveforms.shape[1])
    scaled = [waveform[:length] * INT16_SCALE for waveform, length in zip(waveforms, lengths.tolist())]

    def ours() -> None:
        filter_bank(waveforms, lengths)

    found = {"asr": ours}
    with contextlib.suppress(ImportError):
        found["kaldi-native-fbank"] = kaldi_native(scaled, sample_rate, mels, threads)
    with contextlib.suppress(ImportError):
        found["torchaudio"] = torchaudio_kaldi(scaled, sample_rate, mels)
    return found


def kaldi_native(waveforms: list[torch.Tensor], sample_rate: int, mels: int, threads: int) -> Callable[[], None]:
    import kaldi_native_fbank

    arrays = [waveform.numpy() for waveform in waveforms]
    options = kaldi_native_fbank.FbankOptions()
    options.frame_opts.dither, options.frame_opts.samp_freq, options.mel_opts.num_bins = 0.0, sample_rate, mels
    pool = ThreadPoolExecutor(threads) if threads > 1 else None

    def compute(array) -> None:
        extractor = kaldi_native_fbank.OnlineFbank(options)
        extractor.accept_waveform(sample_rate, array)
        extractor.input_finished()

    def compute_all() -> None:
        for _ in map(compute, arrays) if pool is None else pool.map(compute, arrays):
            pass

    return compute_all


def torchaudio_kaldi(waveforms: list[torch.Tensor], sample_rate: int, mels: int) -> Callable[[], None]:
    from torchaudio.compliance.kaldi import fbank

    def compute_all() -> None:
        for waveform in waveforms:
            fbank(waveform[None], num_mel_bins=mels, sample_frequency=float(sample_rate), dither=0.0)

    return compute_all


def medians(functions: dict[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    """Seconds per call of each function: the median over rounds, after a warm-up round."""
    taken = {name: [] for name in functions}
    for _ in range(rounds + 1):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            taken[name].append(time.perf_counter() - start)
    return {name: statistics.median(seconds[1:]) for name, seconds in taken.items()}


def main() -> None:
    import kaldi_native_fbank

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=8.0, help="length of an utterance")
    parser.add_argument("--utterances", type=int, default=16, help="utterances in the batch")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    arguments = parser.parse_args()
    generator = torch.Generator().manual_seed(1)

    print(
        f"{platform.machine()}, torch {torch.__version__}, kaldi-native-fbank {kaldi_native_fbank.__version__}, ",
        end="",
    )
    print(f"{arguments.utterances} utterances of {arguments.seconds} s; seconds of audio per second\n")
    print(
        "| Hz | mels | threads | asr | kaldi-native-fbank | torchaudio | asr / kaldi-native-fbank | asr / torchaudio |"
    )
    print("|---:|---:|---:|---:|---:|---:|---:|---:|")
    for threads in arguments.threads:
        torch.set_num_threads(threads)
        for sample_rate in (16000, 8000):
            samples = int(arguments.seconds * sample_rate)
            waveforms = 0.1 * torch.randn(arguments.utterances, samples, generator=generator)
            for mels in (40, 80):
                functions = contestants(waveforms, sample_rate, mels, threads)
                seconds = medians(functions, arguments.rounds)
                audio = arguments.seconds * arguments.utterances
                ours, native, torchaudio = (audio / seconds[name] for name in functions)
                print(
                    f"| {sample_rate} | {mels} | {threads} | {ours:,.0f} | {native:,.0f} | {torchaudio:,.0f} "
                    f"| {ours / native:.1f} | {ours / torchaudio:.1f} |"
                )


if __name__ == "__main__":
    main()
