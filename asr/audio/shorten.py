"""Decodes mu-law audio compressed by Tony Robinson's shorten, as found in SPHERE files, which FFmpeg cannot do.

The format is that of Robinson, SHORTEN: simple lossless and near-lossless waveform compression (CUED/F-INFENG/TR.156, 1994) in
versions 1 and 2. A mu-law code becomes a number from -128 to 127 by its loudness, and blocks of such numbers are coded as
differences of order 0 to 3 in Rice codes: zeros and a one (how many times 2^width), then `width` bits.

Only the start of a code shows where it ends, so finding the codes is a walk in plain Python over a table of distances to the
next one bit; everything else is done for many blocks at once.
"""

from __future__ import annotations

import array
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy

MAGIC = b"ajkg"
# Types of samples. AU1: mu-law, with its two zeros at the ends of the scale; AU2: mu-law, with the two zeros side by side.
AU1, AU2 = 0, 8
# Commands; 0 to 3 are blocks of differences of that order.
QUIT, BLOCKSIZE, BITSHIFT, ZERO = 4, 5, 6, 8
COMMAND_BITS, ENERGY_BITS, BITSHIFT_BITS, NUMBER_BITS = 2, 3, 2, 2
LARGEST_BLOCK = 65535  # samples
MOST_CHANNELS = 8
LARGEST_WIDTH = 24  # bits of a Rice code's lower part: numbers from -128 to 127 need at most 12
SHIFTS = 13
WINDOW = 1 << 18  # bits per table
FARTHEST = 65000  # bits to the next one; intact data never have that many zeros


class Unsupported(ValueError):
    """The stream is of an unsupported kind, though it may be intact."""


def decode_ulaw(data: bytes, most_samples: int) -> numpy.ndarray:
    """The mu-law codes in a shorten stream: (samples, channels) uint8.

    Raises ValueError, with a reason in words, if it is damaged, cut short or has more than `most_samples` samples per channel,
    and Unsupported if it is not lossless mu-law or uses linear prediction (shorten -p), which NIST's programs do not.
    """
    import numpy

    reader = _Reader(data)
    kind, channels, size, predictors, means, skipped = (reader.number() for _ in range(6))
    if kind not in (AU1, AU2):
        raise Unsupported(f"its samples are of shorten's type {kind}, and lossless mu-law is {AU1} or {AU2}")
    if predictors or means:
        raise Unsupported("it was made with linear prediction or running means")
    if not 1 <= channels <= MOST_CHANNELS or not 1 <= size <= LARGEST_BLOCK or skipped:
        raise ValueError(f"it says {channels} channels, blocks of {size} samples and {skipped} bytes before them")
    blocks = _Blocks(kind, channels)
    reader.full = blocks.take
    shift, samples = 0, 0
    while (command := reader.rice(COMMAND_BITS)) != QUIT:
        if command <= 3 or command == ZERO:
            samples += size if blocks.count % channels == 0 else 0
            if samples > most_samples:
                raise ValueError(f"it holds more than the {most_samples} samples per channel that its header counts")
            if command == ZERO:
                blocks.add(0, size, 0, shift, coded=False)
                continue
            width = reader.rice(ENERGY_BITS) + 1
            if width > LARGEST_WIDTH:
                raise ValueError(f"it says codes of {width} bits")
            reader.walk(size, width)
            blocks.add(command, size, width, shift, coded=True)
        elif command == BLOCKSIZE:
            size = reader.number()
            if not 1 <= size <= LARGEST_BLOCK:
                raise ValueError(f"it says a block of {size} samples")
        elif command == BITSHIFT:
            shift = reader.rice(BITSHIFT_BITS)
            if shift >= SHIFTS:
                raise ValueError(f"it says a shift of {shift} bits")
        else:
            raise ValueError(f"it holds the command {command}, which does not exist")
    blocks.take(*reader.walked())
    columns = [numpy.concatenate(parts) if parts else numpy.zeros(0, numpy.uint8) for parts in blocks.channels]
    if len({len(column) for column in columns}) > 1:
        raise ValueError("its channels differ in length")
    return numpy.stack(columns, axis=1)


class _Reader:
    """Reads Rice codes from the start. `full` is called with the codes walked so far before the table moves on."""

    def __init__(self, data: bytes):
        self.data = data
        self.place = 8 * (len(MAGIC) + 1)
        self.starts: list[int] = []
        self.full: Callable[[numpy.ndarray, numpy.ndarray, numpy.ndarray], None] = lambda *_: None
        self._look(WINDOW)

    def _look(self, bits: int) -> None:
        """Makes the table of distances to the next one bit, from the current position."""
        import numpy

        self.jumps: dict[int, array.array] = {}
        first = self.place // 8
        self.base = 8 * first
        self.piece = numpy.frombuffer(self.data, numpy.uint8)[first : first + bits // 8]
        within, beyond = _distances_in_bytes()
        filled = numpy.flatnonzero(self.piece)  # the bytes with a one bit
        leading = numpy.full(len(self.piece) + 1, FARTHEST)  # from the start of each byte
        if len(filled):
            end = int(filled[-1]) + 1
            following = numpy.repeat(filled, numpy.diff(filled, prepend=-1))
            leading[:end] = 8 * (following - numpy.arange(end)) + within[self.piece[following], 0]
        leading = numpy.minimum(leading, FARTHEST).astype(numpy.uint16)
        distances = within[self.piece] + beyond[self.piece] * leading[1:, None]
        self.distances = array.array("H", distances.tobytes())

    def _move(self) -> None:
        """Moves the table to the current position; raises ValueError if it already reached the end of the data."""
        if self.base + len(self.distances) >= 8 * len(self.data):
            raise ValueError("its data end before its end is marked")
        bits = WINDOW if self.place - self.base >= 8 else 2 * len(self.distances)
        self.full(*self.walked())
        self._look(bits)

    def rice(self, width: int) -> int:
        """Reads one number of this width."""
        while True:
            place = self.place - self.base
            if place < len(self.distances) and place + (end := self.distances[place] + 1 + width) <= len(
                self.distances
            ):
                break
            self._move()
        at = self.place + self.distances[place] + 1
        self.place += end
        low = int.from_bytes(self.data[at // 8 : at // 8 + 8].ljust(8, b"\0"), "big") >> (64 - at % 8 - width)
        return self.distances[place] << width | low & ((1 << width) - 1)

    def number(self) -> int:
        """Reads a number that is preceded by its width."""
        width = self.rice(NUMBER_BITS)
        if width > 32:
            raise ValueError(f"it says a number of {width} bits")
        return self.rice(width)

    def walk(self, count: int, width: int) -> None:
        """Walks over `count` codes, recording where each begins."""
        while True:
            place, jumps = self.place - self.base, self._jumps(width)
            try:
                ends = [place := place + jumps[place] for _ in range(count)]
            except IndexError:
                ends = [len(jumps) + 1]
            if ends[-1] <= len(jumps):
                break
            self._move()
        self.starts.append(self.place - self.base)
        self.starts += ends
        self.starts.pop()
        self.place = self.base + ends[-1]

    def _jumps(self, width: int) -> array.array:
        """For each position in the table, the length of a code that begins there."""
        import numpy

        if width not in self.jumps:
            distances = numpy.frombuffer(self.distances, numpy.uint16)
            self.jumps[width] = array.array("H", (distances + numpy.uint16(width + 1)).tobytes())
        return self.jumps[width]

    def walked(self) -> tuple[numpy.ndarray, numpy.ndarray, numpy.ndarray]:
        """Returns (where each code begins in `piece`, the zeros before its one, `piece`), and forgets them."""
        import numpy

        starts = numpy.array(self.starts, numpy.int64)
        self.starts.clear()
        return starts, numpy.frombuffer(self.distances, numpy.uint16)[starts].astype(numpy.int64), self.piece


@functools.cache
def _distances_in_bytes() -> tuple[numpy.ndarray, numpy.ndarray]:
    """From each bit of a byte, the distance to its next one bit or else to its end, and whether it is the end.

    Both are (256, 8) uint16.
    """
    import numpy

    bits = numpy.unpackbits(numpy.arange(256, dtype=numpy.uint8)[:, None], axis=1)
    within, beyond = numpy.zeros((256, 8), numpy.uint16), numpy.zeros((256, 8), numpy.uint16)
    distance, none = numpy.zeros(256, numpy.uint16), numpy.ones(256, bool)
    for place in reversed(range(8)):
        distance = numpy.where(bits[:, place], 0, distance + 1)
        none &= bits[:, place] == 0
        within[:, place], beyond[:, place] = distance, none
    return within, beyond


class _Blocks:
    """Turns walked codes into mu-law codes, block by block, with the channels taking turns."""

    def __init__(self, kind: int, channels: int):
        self.codes = ulaw_codes(kind)
        self.channels: list[list[numpy.ndarray]] = [[] for _ in range(channels)]
        self.history = [[0, 0, 0] for _ in range(channels)]  # the last three numbers of each, the last one first
        self.waiting: list[tuple[int, int, int, int, bool]] = []
        self.count = 0

    def add(self, order: int, size: int, width: int, shift: int, coded: bool) -> None:
        self.waiting.append((order, size, width, shift, coded))
        self.count += 1

    def take(self, starts: numpy.ndarray, zeros: numpy.ndarray, piece: numpy.ndarray) -> None:
        """Makes the codes of all waiting blocks."""
        import numpy

        if not self.waiting:
            return
        orders, sizes, widths, shifts, coded = (numpy.array(column) for column in zip(*self.waiting))
        first = self.count - len(self.waiting)
        self.waiting.clear()
        residuals = _residuals(starts, zeros, piece, numpy.repeat(widths[coded], sizes[coded]))
        used = 0
        borders = [0, *(numpy.flatnonzero(numpy.diff(sizes)) + 1).tolist(), len(sizes)]
        for begin, end in zip(borders, borders[1:]):  # blocks of the same size
            size, here = int(sizes[begin]), coded[begin:end]
            rows = numpy.zeros((end - begin, size), numpy.int64)
            count = int(here.sum()) * size
            rows[here] = residuals[used : used + count].reshape(-1, size)
            used += count
            numbers = self._summed(rows, orders[begin:end], first + begin)
            codes = self.codes[shifts[begin:end, None], numbers + 128]
            for channel, parts in enumerate(self.channels):
                parts.append(codes[(channel - first - begin) % len(self.channels) :: len(self.channels)].reshape(-1))

    def _summed(self, rows: numpy.ndarray, orders: numpy.ndarray, first: int) -> numpy.ndarray:
        """Undoes the differences of blocks of one size: (blocks, size) int64, overwritten."""
        import numpy

        size = rows.shape[1]
        for order in (1, 2, 3):
            at_least = orders >= order
            rows[at_least] = numpy.cumsum(rows[at_least], axis=1)
        # the contribution of earlier numbers to a block is a polynomial in the position
        places = range(max(1, size - 2), size + 1)
        ends, carried = rows[:, -3:].tolist(), []
        for block, (order, end) in enumerate(zip(orders.tolist(), ends), start=first):
            history = self.history[block % len(self.channels)]
            one, two, three = history
            level = one if order >= 1 else 0
            slope = one - two if order >= 2 else 0
            bend = one - 2 * two + three if order == 3 else 0
            carried.append((level, slope, bend))
            for place, number in zip(places, end):
                number += level + slope * place + bend * (place * (place + 1) // 2)
                if not -128 <= number <= 127:
                    raise ValueError("it holds numbers that are not mu-law codes")
                history.insert(0, number)
            del history[3:]
        levels, slopes, bends = numpy.array(carried, numpy.int64).T[:, :, None]
        place = numpy.arange(1, size + 1)
        rows += levels + slopes * place + bends * (place * (place + 1) // 2)
        if rows.min() < -128 or rows.max() > 127:
            raise ValueError("it holds numbers that are not mu-law codes")
        return rows


def _residuals(
    starts: numpy.ndarray, zeros: numpy.ndarray, piece: numpy.ndarray, widths: numpy.ndarray
) -> numpy.ndarray:
    """The signed numbers of Rice codes, given where each begins, its zeros and its width."""
    import numpy

    at = starts + zeros + 1
    padded = numpy.zeros(len(piece) + 3, numpy.uint32)
    padded[:-3] = piece
    words = padded[:-3] << 24 | padded[1:-2] << 16 | padded[2:-1] << 8 | padded[3:]
    low = (words.astype(numpy.int64)[at >> 3] >> (32 - (at & 7) - widths)) & ((1 << widths) - 1)
    number = zeros << widths | low
    return (number >> 1) ^ -(number & 1)


def ulaw_codes(kind: int) -> numpy.ndarray:
    """The mu-law code of each number from -128 to 127, for each bit shift: (13, 256) uint8. kind: AU1 or AU2.

    With a shift of s, the codes of multiples of 2^s (on the scale of 13 bits and sign) come first on both sides of zero, from
    quiet to loud, then the other codes; negative silence lies between the two groups.
    """
    import numpy

    most = numpy.zeros(256, numpy.int64)  # the largest shift that has the code
    for shift in range(SHIFTS):
        most[_ulaw_code(numpy.arange(-(1 << 15), 1 << 15, 8 << shift))] = shift
    codes = numpy.zeros((SHIFTS, 256), numpy.uint8)
    for shift in range(SHIFTS):
        positive = sorted(range(255, 127, -1), key=lambda code: most[code] < shift)
        negative = sorted(range(126, -1, -1), key=lambda code: most[code] < shift)
        if kind == AU1:
            negative.insert(sum(most[:127] >= shift), 127)
        else:
            negative.insert(0, 127)
        codes[shift] = negative[::-1] + positive
    return codes


def _ulaw_code(samples: numpy.ndarray) -> numpy.ndarray:
    """The mu-law code of linear samples, by truncation as in Reese and Campbell's coder, the origin of shorten's tables."""
    import numpy

    magnitude = numpy.minimum(numpy.abs(samples), 32635) + 132
    segment = numpy.floor(numpy.log2(magnitude)).astype(numpy.int64) - 7
    return 255 - (numpy.where(samples < 0, 128, 0) | segment << 4 | (magnitude >> (segment + 3)) & 15)
