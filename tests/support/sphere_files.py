"""NIST SPHERE files, as the LDC's discs hold them: plain, mu-law, A-law, and compressed by Tony Robinson's shorten.

The shorten streams are made as releases 1.09, 1.1 and 2.00 of that program make them (Robinson, SHORTEN: simple lossless and
near-lossless waveform compression, CUED/F-INFENG/TR.156, 1994): the magic `ajkg`, one byte of format version, then
polynomial predictors whose residuals are Rice coded. The release's first digit is the format version: 1 without
a running mean and without a command for silence, 2 with a mean over four blocks.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy

SHORTEN_PCM = ("pcm,embedded-shorten-v1.09", "pcm,embedded-shorten-v1.1", "pcm,embedded-shorten-v2.00")
SHORTEN_ULAW = ("ulaw,embedded-shorten-v1.09", "ulaw,embedded-shorten-v1.1", "ulaw,embedded-shorten-v2.00")
CODINGS = ("pcm", "ulaw", "alaw", *SHORTEN_PCM, *SHORTEN_ULAW)

BLOCK = 256  # samples of one channel in a shorten block
# shorten's commands; 0 to 3 are blocks predicted by a polynomial of that order.
QUIT, BLOCKSIZE, BITSHIFT, ZERO = 4, 5, 6, 8
# shorten's bit widths of commands, Rice parameters and shifts.
COMMAND_BITS, ENERGY_BITS, BITSHIFT_BITS, ULONG_BITS = 2, 3, 2, 2
SILENT = 32  # the bit shift of a block that is all zero
# shorten's numbers for what a sample is: mu-law in format versions 1 and 2, 16 bits by byte order.
AU1, AU2, S16HL, S16LH = 0, 8, 3, 5


def write_sphere(
    path: str | Path,
    samples: numpy.ndarray,
    sample_rate: int,
    coding: str = "pcm",
    byte_format: str = "01",
    cut_to: float | None = None,
    header_bytes: int = 1024,
    **header: Any,
) -> Path:
    """Writes int16 samples, (samples,) or (samples, channels), as a SPHERE file, making its folder.

    coding: one of CODINGS. For mu-law and A-law the samples are coded to 8 bits: `g711(samples, coding)` is what comes back.
    byte_format: "01" (little endian) or "10" (big endian), of pcm.
    cut_to: keeps only this share of the bytes after the header, as an interrupted copy does.
    header: fields that are put in place of ours, or after them; None leaves one out. `sample_count=...` claims another
        length; the first releases of stereo corpora counted the samples of all channels (`first_release`).
    """
    samples = numpy.asarray(samples)
    assert samples.dtype == numpy.int16, samples.dtype
    samples = samples[:, None] if samples.ndim == 1 else samples
    base = coding.partition(",")[0]
    stored = samples if base == "pcm" else (to_ulaw if base == "ulaw" else to_alaw)(samples)
    if "shorten" in coding:
        version = int(coding.partition("-v")[2][0])
        data = shorten(stored, version, byte_format)
    elif base == "pcm":
        data = stored.astype("<i2" if byte_format == "01" else ">i2").tobytes()
    else:
        data = stored.tobytes()
    fields = {
        "channel_count": samples.shape[1],
        "sample_count": samples.shape[0],
        "sample_rate": sample_rate,
        "sample_n_bytes": 2 if base == "pcm" else 1,
        "sample_byte_format": byte_format if base == "pcm" else "1",
        "sample_sig_bits": 16 if base == "pcm" else 8,
        "sample_coding": coding,
        "sample_checksum": int(stored.astype(numpy.int64).sum()) % 65536,
    } | header
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if cut_to is not None:
        data = data[: int(len(data) * cut_to)]
    path.write_bytes(sphere_header(fields, header_bytes) + data)
    return path


def first_release(samples: numpy.ndarray) -> dict[str, Any]:
    """The header fields in which the first releases of stereo corpora differ: sample_count is that of all channels.

    NIST's SPHERE library 2.7 repairs such headers on opening (correct_out_of_date_headers); they had no checksum.
    """
    return {"sample_count": int(numpy.asarray(samples).size), "sample_checksum": None}


def sphere_header(fields: dict[str, Any], size: int = 1024) -> bytes:
    """A SPHERE header of `size` bytes: whole numbers as -i, others as -r, text as -sN; fields that are None are left out."""
    lines = ["NIST_1A", f"{size:7d}"]
    for name, value in fields.items():
        if value is not None:
            kind = "i" if isinstance(value, int) else "r" if isinstance(value, float) else f"s{len(str(value))}"
            lines.append(f"{name} -{kind} {value}")
    text = "\n".join([*lines, "end_head", ""]).encode("latin1")
    assert len(text) <= size, f"the header takes {len(text)} bytes"
    return text.ljust(size, b" ")


def g711(samples: numpy.ndarray, coding: str) -> numpy.ndarray:
    """int16 samples after coding them to 8 bits by mu-law or A-law and back."""
    return from_ulaw(to_ulaw(samples)) if coding.startswith("ulaw") else from_alaw(to_alaw(samples))


def from_ulaw(codes: numpy.ndarray) -> numpy.ndarray:
    """G.711 mu-law codes (uint8) as int16: its 14 bits at the left, sample by sample as the standard writes the code."""
    inverted = ~numpy.asarray(codes, numpy.uint8)
    segment, step = (inverted >> 4) & 7, (inverted & 15).astype(numpy.int32)
    magnitude = ((2 * step + 33) << segment) - 33
    return (4 * numpy.where(inverted & 0x80, -magnitude, magnitude)).astype(numpy.int16)


def from_alaw(codes: numpy.ndarray) -> numpy.ndarray:
    """G.711 A-law codes (uint8) as int16: its 13 bits at the left."""
    plain = numpy.asarray(codes, numpy.uint8) ^ 0x55
    segment, step = ((plain >> 4) & 7).astype(numpy.int32), (plain & 15).astype(numpy.int32)
    magnitude = numpy.where(segment == 0, 2 * step + 1, (2 * step + 33) << numpy.maximum(segment - 1, 0))
    return (8 * numpy.where(plain & 0x80, magnitude, -magnitude)).astype(numpy.int16)


def to_ulaw(samples: numpy.ndarray) -> numpy.ndarray:
    """The mu-law code (uint8) nearest to each int16 sample."""
    return _nearest_codes(from_ulaw(numpy.arange(256, dtype=numpy.uint8)), samples)


def to_alaw(samples: numpy.ndarray) -> numpy.ndarray:
    """The A-law code (uint8) nearest to each int16 sample."""
    return _nearest_codes(from_alaw(numpy.arange(256, dtype=numpy.uint8)), samples)


def _nearest_codes(levels: numpy.ndarray, samples: numpy.ndarray) -> numpy.ndarray:
    # the last of equal levels: mu-law's two zeros are 127 and 255
    order = numpy.argsort(levels, kind="stable")
    middles = (levels[order][1:].astype(numpy.int32) + levels[order][:-1]) / 2
    return order.astype(numpy.uint8)[numpy.searchsorted(middles, samples, side="left")]


def shorten(stored: numpy.ndarray, version: int, byte_format: str = "01") -> bytes:
    """The shorten stream of `stored`, (samples, channels) int16 samples or uint8 mu-law codes, in format version 1 or 2."""
    ulaw = stored.dtype == numpy.uint8
    kind = (AU1 if version == 1 else AU2) if ulaw else (S16LH if byte_format == "01" else S16HL)
    means = 0 if ulaw or version == 1 else 4
    bits = _Bits()
    for number in (kind, stored.shape[1], BLOCK, 0, means, 0):
        bits.ulong(number)
    channels = [_Channel(column, version, ulaw, means) for column in stored.T]
    shift, size = 0, BLOCK
    for block in range(-(-len(stored) // BLOCK)):
        here = min(BLOCK, len(stored) - block * BLOCK)
        if here != size:
            bits.rice([BLOCKSIZE], COMMAND_BITS)
            bits.ulong(here)
            size = here
        for channel in channels:
            if channel.shifts[block] != shift:
                shift = channel.shifts[block]
                bits.rice([BITSHIFT], COMMAND_BITS)
                bits.rice([shift], BITSHIFT_BITS)
            channel.put(block, bits)
    bits.rice([QUIT], COMMAND_BITS)
    return b"ajkg" + bytes([version]) + bits.packed()


class _Channel:
    """One channel's blocks, with the low bits that are zero throughout a block shifted out."""

    def __init__(self, column: numpy.ndarray, version: int, ulaw: bool, means: int):
        self.version, self.means = version, [0] * means
        self.length = len(column)
        blocks = -(-self.length // BLOCK)
        padded = numpy.full(blocks * BLOCK, 255 if ulaw else 0, numpy.int64)
        padded[: self.length] = column
        padded = padded.reshape(blocks, BLOCK)
        if ulaw:
            most = ulaw_shifts()
            self.shifts = most[padded].min(axis=1).tolist()
            shifted = numpy.stack([ulaw_numbers(most >= shift, version) for shift in range(13)])[self.shifts]
            shifted = numpy.take_along_axis(shifted, padded, axis=1)
        else:
            every = numpy.bitwise_or.reduce(padded, axis=1)
            self.shifts = [int(bits & -bits).bit_length() - 1 if bits else SILENT for bits in every.tolist()]
            shifted = padded >> numpy.minimum(self.shifts, 16).astype(numpy.int64)[:, None]
        history = numpy.concatenate([numpy.zeros(3, numpy.int64), shifted.reshape(-1)])
        self.differences = [numpy.diff(history, order)[3 - order :].reshape(blocks, BLOCK) for order in range(4)]

    def put(self, block: int, bits: _Bits) -> None:
        size = min(BLOCK, self.length - block * BLOCK)
        shift = self.shifts[block]
        plain = self.differences[0][block, :size]
        offset = 0
        if self.means:
            offset = truncated(len(self.means) // 2 + sum(self.means), len(self.means))
            offset = offset if shift == 0 else (offset >> (shift - 1)) >> 1
            mean = truncated(size // 2 + int(plain.sum()), size)
            self.means = [*self.means[1:], mean << shift if shift < SILENT else 0]
        if shift == SILENT and self.version >= 2:
            bits.rice([ZERO], COMMAND_BITS)
            return
        residuals = [plain - offset, *(self.differences[order][block, :size] for order in (1, 2, 3))]
        order = min(range(4), key=lambda order: int(numpy.abs(residuals[order]).sum()))
        residual = residuals[order]
        codes = numpy.where(residual < 0, 2 * ~residual + 1, 2 * residual)
        energy = min(range(24), key=lambda energy: int((codes >> (energy + 1)).sum()) + size * (energy + 2))
        bits.rice([order], COMMAND_BITS)
        bits.rice([energy], ENERGY_BITS)
        bits.rice(codes, energy + 1)


def ulaw_shifts() -> numpy.ndarray:
    """The largest bit shift under which each mu-law code stays: (256,). It stays if a multiple of 8 · 2^shift is coded to it."""
    codes = numpy.arange(256)
    segment, step = (~codes >> 4) & 7, ~codes & 15
    lowest = numpy.maximum(((16 | step) << (segment + 3)) - 132, 0)
    highest = ((17 + step) << (segment + 3)) - 133
    highest[[0, 128]] = 32768, 32767  # the loudest codes stand for all that is louder
    stays = [highest // (8 << shift) * (8 << shift) >= numpy.maximum(lowest, codes == 127) for shift in range(13)]
    return numpy.where(codes == 127, 0, numpy.sum(stays, axis=0) - 1)


def ulaw_numbers(stays: numpy.ndarray, version: int) -> numpy.ndarray:
    """shorten's numbers for the mu-law codes that stay, (256,): 0, 1, ... from the quietest positive one, -1, -2, ... negative.

    Of the negative ones the zero, code 127, is the last one in version 1 and the first one in version 2.
    """
    numbers = numpy.full(256, 10**6)
    positive = [code for code in range(255, 127, -1) if stays[code]]
    negative = [code for code in range(126, -1, -1) if stays[code]]
    negative.insert(len(negative) if version == 1 else 0, 127)
    numbers[positive] = numpy.arange(len(positive))
    numbers[negative] = -1 - numpy.arange(len(negative))
    return numbers


def truncated(a: int, b: int) -> int:
    """a / b as C divides: towards zero."""
    return -(-a // b) if a < 0 else a // b


class _Bits:
    """A string of bits, the first at the left, made of shorten's codes."""

    def __init__(self):
        self.values: list[numpy.ndarray] = []
        self.widths: list[numpy.ndarray] = []

    def rice(self, values: Any, width: int) -> None:
        """Each value as its upper part in unary (zeros and a one), then its lower `width` bits."""
        values = numpy.asarray(values, numpy.int64)
        self.values.append(values)
        self.widths.append(numpy.full(len(values), width, numpy.int64))

    def ulong(self, value: int) -> None:
        self.rice([value.bit_length()], ULONG_BITS)
        self.rice([value], value.bit_length())

    def packed(self) -> bytes:
        """The bits as bytes, filled up to whole words of 32 bits, in which shorten reads and writes."""
        values, widths = numpy.concatenate(self.values), numpy.concatenate(self.widths)
        ones = numpy.cumsum((values >> widths) + 1 + widths) - widths - 1
        total = int(ones[-1] + 1 + widths[-1])
        bits = numpy.zeros(-(-total // 32) * 32, numpy.uint8)
        bits[ones] = 1
        for place in range(int(widths.max())):
            has = widths > place
            bits[ones[has] + 1 + place] = (values[has] >> (widths[has] - 1 - place)) & 1
        return numpy.packbits(bits).tobytes()
