"""Audio files → what was said in them."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

import torch

from asr.audio import LONGEST_SECONDS, read_audio
from asr.checkpoint import open_checkpoint
from asr.decoders import decoders
from asr.errors import UserError
from asr.evaluation import choose_attention, choose_device


def transcribe_files(
    files: Sequence[str],
    checkpoint: str,
    attention: dict[str, Any] | None = None,
    knobs: dict[str, int] | None = None,
    decoder: dict[str, Any] | None = None,
    device: str = "auto",
    longest_seconds: float = LONGEST_SECONDS,
) -> int:
    """Prints `file<TAB>transcript` for every file and returns how many could not be used; those are named on standard error.

    longest_seconds: longer files are not recognized: they take memory and time without bound.
    Raises UserError if there are no files, or if the checkpoint cannot be opened or served.
    """
    if not files:
        raise UserError("Name at least one audio file: python transcribe.py checkpoint=RUN some.wav")
    opened = open_checkpoint(checkpoint)
    other = choose_attention(opened.model, attention, knobs or {})
    place = choose_device(device)
    model = (opened.model if other is None else opened.model.with_attention(other)).to(place).eval()
    decode = decoders.create(decoder or {"name": "greedy"})
    failed = 0
    for file in files:
        try:
            waveform, rate = read_audio(file, model.features.filter_bank.sample_rate, longest_seconds)
            if model.features.frames_of(len(waveform)) < 1:
                raise UserError(f"{file} is shorter than one frame: {len(waveform) / rate:.4f} s.")
        except UserError as error:
            print(f"transcribe.py: {error}", file=sys.stderr)
            failed += 1
            continue
        with torch.inference_mode():
            samples = torch.tensor([len(waveform)], device=place)
            emissions, lengths = model(torch.from_numpy(waveform)[None].to(place), samples)
        tokens = opened.units.decode(decode(emissions, lengths)[0][0].ids)
        say(f"{file}\t{opened.units.text(tokens)}")
    return failed


def say(line: str) -> None:
    """Prints a line at once. Raises UserError if standard output takes no more: its disk is full, or its reader has gone."""
    try:
        print(line, flush=True)
    except OSError as error:
        # what is left unsaid would fail once more when Python ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise UserError(f"The transcripts cannot be written to standard output: {error.strerror}.") from None
