"""Reads NIST SPHERE files, the audio format of the LDC's corpora, bit for bit, and checks them against their headers.

The header is text ("NIST_1A", its size, then lines `name -type value` up to `end_head`). The samples after it are 16-bit PCM
of either byte order, mu-law or A-law, the first two perhaps compressed by shorten. FFmpeg decompresses 16-bit samples, and
`asr.audio.shorten` mu-law codes, which FFmpeg cannot. Headers are interpreted as by NIST's own library (SPHERE 2.7):
`sample_checksum` is the sum of all channels' samples as 16-bit numbers (or of mu-law codes as 8-bit ones) modulo 65536, and a
`sample_count` over all channels, as in the first releases of stereo corpora, is divided by their number.
"""

from __future__ import annotations

import dataclasses
import io
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asr.audio.headers import is_no_length
from asr.audio.shorten import MAGIC as SHORTEN_MAGIC
from asr.audio.shorten import Unsupported, decode_ulaw
from asr.errors import TooLong, UserError

if TYPE_CHECKING:
    import numpy

MAGIC = b"NIST_1A"
BLOCK = 1024  # bytes: files on discs and tapes may be padded to a multiple
RATES = range(1000, 1_000_001)  # Hz
MOST_CHANNELS = 8  # as in shorten
# The fields that define how to read the samples.
FIELDS = {
    "channel_count",
    "sample_byte_format",
    "sample_checksum",
    "sample_coding",
    "sample_count",
    "sample_n_bytes",
    "sample_rate",
}
MOST_UNCOUNTED = 1 << 27  # samples of a compressed file whose header does not count them: two hours at 16 kHz
LARGEST_HEADER = 1 << 20  # bytes; nearly always 1024
BASE_CODINGS = {"pcm": "pcm", "ulaw": "ulaw", "mu-law": "ulaw", "mulaw": "ulaw", "u-law": "ulaw"}
BASE_CODINGS |= {"alaw": "alaw", "a-law": "alaw"}


class OtherSamples(UserError):
    """PCM that is not 16-bit, which libsndfile has to read. samples: the header's count."""

    def __init__(self, path: Path, coding: str, width: int, usual: int, samples: int | None):
        super().__init__(
            f"{path} holds {coding} with {width} bytes per sample by its SPHERE header; only {usual} can be read. Convert it "
            "to WAV first (sph2pipe or sox)."
        )
        self.samples = samples


@dataclasses.dataclass(frozen=True)
class SphereHeader:
    """The header of a SPHERE file.

    sample_rate: Hz. channels: their number. samples: per channel, corrected by the size of uncompressed data; None for
    compressed data that the header does not count.
    coding: "pcm", "ulaw" or "alaw", followed by ",embedded-shorten-vN.NN" if compressed, as in the file, in lower case.
    byte_format: "01" (little endian) or "10" (big endian) for 16-bit samples, "1" for others.
    fields: all by name: int, float or str. size: bytes before the first sample. checksum: None if there is none.
    """

    sample_rate: int
    channels: int
    samples: int | None
    coding: str
    byte_format: str
    fields: dict[str, int | float | str]
    size: int
    checksum: int | None

    @property
    def base_coding(self) -> str:
        return self.coding.partition(",")[0]

    @property
    def is_shortened(self) -> bool:
        return "," in self.coding

    @property
    def sample_bytes(self) -> int:
        """Bytes of one sample before any compression."""
        return 2 if self.base_coding == "pcm" else 1


def is_sphere(path: str | Path) -> bool:
    """Whether the file `path` begins like a SPHERE file. False for an unreadable file."""
    try:
        with open(path, "rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except (OSError, ValueError):
        return False


def read_sphere_header(path: str | Path) -> SphereHeader:
    """The header of the SPHERE file `path`, for uncompressed audio checked against the size of the file.

    Raises UserError, naming the file and the field, for a damaged or unsupported header, and for a file that is shorter than
    its header says. Fewer than BLOCK bytes after the counted samples are padding; with more, the count is wrong, and all of
    them are samples.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            start = file.read(16)
            size = _header_size(path, start)
            text = start + file.read(size - len(start))
            data_bytes = file.seek(0, io.SEEK_END) - size
    except FileNotFoundError:
        raise UserError(f"There is no audio file {path}: check its name.") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path} cannot be opened: {reason}. Check its name and permissions.") from None
    if data_bytes < 0:
        raise UserError(
            f"{path} is cut short within its SPHERE header: {size + data_bytes} of {size} bytes are there. Copy it again."
        )
    return _header(path, _fields(path, text), size, data_bytes)


def read_sphere(path: str | Path, longest_seconds: float | None = None) -> tuple[numpy.ndarray, int]:
    """The samples in the SPHERE file `path`, bit for bit: (samples, channels) int16, and their sample rate in Hz.

    mu-law and A-law are expanded as in G.711, to the upper 14 and 13 of 16 bits.
    longest_seconds: anything longer raises TooLong, before it is decoded. None: no limit.

    Raises UserError as `read_sphere_header` does, and if the samples cannot be decoded, are fewer than the header says (or, if
    compressed, more), or do not add up to its checksum.
    """
    import numpy

    path = Path(path)
    header = read_sphere_header(path)
    seconds = (header.samples or 0) / header.sample_rate
    if longest_seconds is not None and seconds > longest_seconds:
        raise TooLong(path, seconds, longest_seconds)
    try:
        with open(path, "rb") as file:
            file.seek(header.size)
            data = file.read()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}. Copy it again, or make it readable.") from None
    if header.is_shortened:
        stored = _unshortened(path, header, data)
    else:
        kind = {("pcm", "01"): "<i2", ("pcm", "10"): ">i2"}.get((header.base_coding, header.byte_format), "u1")
        stored = numpy.frombuffer(
            data, kind, count=len(data) // header.sample_bytes // header.channels * header.channels
        )
        stored = _counted(header, stored.reshape(-1, header.channels))
    _check(path, header, stored)
    if header.base_coding != "pcm":
        stored = expansion(header.base_coding)[stored]
    return numpy.ascontiguousarray(stored, dtype=numpy.int16), header.sample_rate


def expansion(coding: str) -> numpy.ndarray:
    """The linear value of each of the 256 codes of "ulaw" or "alaw", by ITU-T G.711: (256,) int16, in the upper 14 or 13 bits."""
    import numpy

    codes = numpy.arange(256)
    if coding == "ulaw":
        codes = 255 - codes
        segment, step = (codes >> 4) & 7, codes & 15
        magnitude = (((step << 3) + 132) << segment) - 132
        return numpy.where(codes & 128, -magnitude, magnitude).astype(numpy.int16)
    codes = codes ^ 0x55
    segment, step = (codes >> 4) & 7, codes & 15
    magnitude = ((step << 4) + 8 + 256 * (segment > 0)) << numpy.maximum(segment - 1, 0)
    return numpy.where(codes & 128, magnitude, -magnitude).astype(numpy.int16)


def _header_size(path: Path, start: bytes) -> int:
    if not start.startswith(MAGIC):
        raise UserError(f"{path} is not a NIST SPHERE file: it does not begin with NIST_1A. Copy it again.")
    line = start[8:16]
    if start[7:8] != b"\n" or not re.fullmatch(rb" *\d+ *\n", line):
        raise UserError(
            f"{path} has no size in the second line of its SPHERE header, such as `   1024`: it is damaged, copy it again."
        )
    size = int(line)
    if not 32 <= size <= LARGEST_HEADER:
        raise UserError(
            f"{path} has a SPHERE header of {size} bytes by its second line, which must be damaged: copy it again."
        )
    return size


def _fields(path: Path, text: bytes) -> dict[str, int | float | str]:
    """The fields of a header: `name -i 12`, `name -r 1.5`, `name -s3 abc`, separated by blanks or tabs; `;` starts a comment.

    Malformed lines and values are errors only for FIELDS; other lines are skipped, and other values keep their text.
    """
    fields: dict[str, int | float | str] = {}
    for line in text[16:].decode("latin1").split("\n"):
        if re.fullmatch(r"end_head\s*", line):
            return fields
        parts = re.fullmatch(r"\s*(\S+)\s+-(i|r|s\d+)[ \t](.*)", line.rstrip("\r"))
        if not parts and (line.split() or [""])[0] not in FIELDS:
            continue  # empty lines and comments too
        if not parts:
            raise UserError(
                f"{path} has the line {line[:60]!r} in its SPHERE header instead of `name -type value`: it is damaged, copy it "
                "again."
            )
        fields[parts[1]] = _value(path, *parts.groups())
    raise UserError(
        f"{path} has a SPHERE header without its last line, end_head: it is damaged or cut short, copy it again."
    )


def _value(path: Path, name: str, kind: str, text: str) -> int | float | str:
    if kind[0] == "s":
        length = int(kind[1:])
        value, rest = text[:length], text[length:].partition(";")[0]
        if len(value) < length or rest.strip():
            # libsndfile gives the bytes of a sample instead of the characters of sample_byte_format
            if name not in FIELDS or (name == "sample_byte_format" and not rest.strip()):
                return text
            raise UserError(
                f"{path} promises {length} characters of {name} in its SPHERE header, but has {text[:60]!r}: copy it again."
            )
        return value
    text = text.partition(";")[0].strip()
    try:
        return int(text) if kind == "i" else float(text)
    except ValueError:
        raise UserError(
            f"{path} has {name}={text[:60]!r} in its SPHERE header, which is not a number: it is damaged, copy it again."
        ) from None


def _header(path: Path, fields: dict[str, int | float | str], size: int, data_bytes: int) -> SphereHeader:
    coding, byte_format = _coding(path, fields)
    sample_bytes = 2 if coding.startswith("pcm") else 1
    channels = _whole(path, fields, "channel_count", range(1, MOST_CHANNELS + 1), default=1)
    samples = _sample_count(path, fields)
    checksum = _whole(path, fields, "sample_checksum", range(0, 65536)) if "sample_checksum" in fields else None
    if channels > 1 and str(fields.get("channels_interleaved", "TRUE")).strip().upper() == "FALSE":
        raise UserError(f"{path} holds its channels one after another, not interleaved: convert it to WAV first.")
    header = SphereHeader(
        _whole(path, fields, "sample_rate", RATES), channels, samples, coding, byte_format, fields, size, checksum
    )
    if header.is_shortened:
        return header
    whole = data_bytes // (channels * sample_bytes)
    if samples is None:
        return dataclasses.replace(header, samples=whole)
    if channels > 1 and samples * sample_bytes == data_bytes and samples % channels == 0:
        return dataclasses.replace(header, samples=samples // channels)
    if samples > whole:
        raise _cut_short(path, samples, data_bytes / (channels * sample_bytes))
    is_padded = data_bytes - samples * channels * sample_bytes < BLOCK
    return header if is_padded else dataclasses.replace(header, samples=whole)


def _coding(path: Path, fields: dict[str, int | float | str]) -> tuple[str, str]:
    """(coding, byte format), as in SphereHeader."""
    coding = re.sub(r"\s", "", str(fields.get("sample_coding", "pcm")).lower())
    byte_format = str(fields.get("sample_byte_format", "")).strip().lower()
    if byte_format in BASE_CODINGS:  # some files have the coding in place of the byte order
        coding, byte_format = BASE_CODINGS[byte_format], "1"
    name, comma, packing = coding.partition(",")
    base = BASE_CODINGS.get(name)
    shortened = re.fullmatch(r"embedded-shorten-v[12]\.\d+", packing)
    if base is None or (comma and (not shortened or base == "alaw")):
        raise UserError(
            f"{path} holds audio coded as {coding}, which cannot be read: pcm, ulaw and alaw can, the first two also with "
            "embedded-shorten of versions 1 and 2. Convert it to WAV first (sph2pipe or NIST's w_decode)."
        )
    coding = base + comma + packing
    usual = 2 if base == "pcm" else 1
    width = _whole(path, fields, "sample_n_bytes", range(1, 9), default=usual)
    if width != usual:
        raise OtherSamples(path, coding, width, usual, _sample_count(path, fields))
    if base != "pcm":
        return coding, "1"
    if byte_format not in ("01", "10"):
        raise UserError(
            f"{path} has sample_byte_format={byte_format or 'nothing'} in its SPHERE header; expected 01 (little endian) or 10 "
            "(big endian) for 16-bit samples. Convert it to WAV first (sph2pipe or NIST's w_decode)."
        )
    return coding, byte_format


def _sample_count(path: Path, fields: dict) -> int | None:
    """The header's count of samples; None if it has none or a placeholder."""
    if "sample_count" not in fields:
        return None
    count = _whole(path, fields, "sample_count", range(-1, 1 << 40))
    return None if count and is_no_length(count, 0) else count


def _whole(path: Path, fields: dict, name: str, allowed: range, default: int | None = None) -> int:
    value = fields.get(name, default)
    if value is None:
        raise UserError(f"{path} has no {name} in its SPHERE header: it is damaged, copy it again.")
    if isinstance(value, str) and re.fullmatch(r"\s*\d{1,9}\s*", value):
        value = int(value)  # libsndfile writes the sample_n_bytes of mu-law as text
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # `-r 8000.0`
    if not isinstance(value, int) or value not in allowed:
        raise UserError(
            f"{path} has {name}={value} in its SPHERE header; expected a whole number from {allowed.start} to "
            f"{allowed.stop - 1}. Copy it again."
        )
    return value


def _unshortened(path: Path, header: SphereHeader, data: bytes) -> numpy.ndarray:
    """The samples (int16) or mu-law codes (uint8) that shorten compressed: (samples, channels)."""
    if not data.startswith(SHORTEN_MAGIC):
        raise UserError(
            f"{path} says {header.coding} in its SPHERE header, but its data do not begin like shorten's: it is damaged, or it "
            "was decompressed and kept its header. Copy it again."
        )
    most_samples = MOST_UNCOUNTED // header.channels if header.samples is None else header.samples
    try:
        if header.base_coding == "ulaw":
            return decode_ulaw(data, most_samples)
        return _unshortened_by_ffmpeg(header, data, most_samples)
    except Unsupported as error:
        raise UserError(f"{path} cannot be decompressed ({error}): convert it to WAV first (sph2pipe).") from None
    except ValueError as error:
        raise UserError(
            f"{path} cannot be decompressed ({error}): it is damaged or cut short. Copy it again."
        ) from None


def _unshortened_by_ffmpeg(header: SphereHeader, data: bytes, most_samples: int) -> numpy.ndarray:
    import av
    import numpy

    # with a header of our own, because FFmpeg cannot read every header
    own = (
        f"NIST_1A\n   1024\nchannel_count -i {header.channels}\nsample_rate -i {header.sample_rate}\nsample_n_bytes -i 2\n"
        "sample_byte_format -s2 01\nsample_coding -s26 pcm,embedded-shorten-v2.00\nend_head\n"
    )
    blocks, samples = [], 0
    try:
        with av.open(io.BytesIO(own.encode().ljust(1024) + data), "r", format="nistsphere") as container:
            for frame in container.decode(container.streams.audio[0]):
                planes: list[Any] = list(frame.planes)  # buffers, though PyAV does not annotate them as such
                if frame.format.name != "s16p" or len(planes) != header.channels:
                    raise ValueError(f"it holds {len(planes)} channels of {frame.format.name}")
                samples += frame.samples
                if samples > most_samples:
                    raise ValueError(
                        f"it holds more than the {most_samples} samples per channel that its header counts"
                    )
                blocks.append([numpy.frombuffer(plane, numpy.int16, frame.samples) for plane in planes])
    except av.error.FFmpegError as error:
        raise ValueError(error.strerror) from None
    if not blocks:
        return numpy.zeros((0, header.channels), numpy.int16)
    return numpy.stack([numpy.concatenate(channel) for channel in zip(*blocks)], axis=1)


def _counted(header: SphereHeader, stored: numpy.ndarray) -> numpy.ndarray:
    """The samples of `stored` without what follows them in the file: as many as match the checksum, if any number does."""
    counts = [header.samples, header.fields.get("sample_count"), len(stored)]
    for count in counts:
        if header.checksum is not None and isinstance(count, int) and checksum_of(stored[:count]) == header.checksum:
            return stored[:count]
    return stored[: header.samples]


def checksum_of(stored: numpy.ndarray) -> int:
    return int(stored.sum(dtype="int64")) % 65536


def _check(path: Path, header: SphereHeader, stored: numpy.ndarray) -> None:
    """Raises UserError unless the number of samples is the header's, and they add up to its checksum."""
    if stored.shape[1] != header.channels:
        raise UserError(
            f"{path} holds {stored.shape[1]} channels, but {header.channels} by its SPHERE header: it is damaged, copy it again."
        )
    counted = header.samples if header.is_shortened else None  # for others, the size of the file was checked
    if counted is not None and len(stored) < counted and stored.size != counted:
        raise _cut_short(path, counted, len(stored))
    if header.checksum is None:
        return
    checksum = checksum_of(stored)
    if checksum != header.checksum:
        raise UserError(
            f"{path} is damaged: its samples add up to the checksum {checksum}, not {header.checksum} as in its SPHERE header. "
            "Copy it again."
        )


def _cut_short(path: Path, promised: int, there: float) -> UserError:
    count = f"{there:.1f}".removesuffix(".0")
    return UserError(
        f"{path} is cut short: its SPHERE header promises {promised} samples per channel, {count} are there. Copy it again."
    )
