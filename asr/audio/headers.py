"""What the header of an audio file says about its length, and whether to believe it.

A length in a header is a promise only if the format makes it one. Programs that write to a pipe do not know it yet and leave
0, -1, 0x80000000 or the like; some write the size of the file instead of the audio's. Such audio extends to the end of the
file. A file that promises more than it holds is cut short.

Sources: RIFF/WAVE (Microsoft and IBM, 1991), RF64 and BW64 (EBU Tech 3306, ITU-R BS.2088), Sony's Wave64, AIFF-C (Apple, 1991),
CAF (Apple), AU (Sun), MP4 (ISO/IEC 14496-12), Matroska (RFC 9559), Ogg (RFC 3533), FLAC (RFC 9639), and for MP3 the Xing/Info
and VBRI headers as LAME and Fraunhofer write them.
"""

from __future__ import annotations

import dataclasses
import functools
import io
import mmap
import re
import struct
from pathlib import Path
from typing import Protocol

# Files in a folder count as audio if they have one of these suffixes; a file that the user names may have any name.
AUDIO_SUFFIXES = frozenset(
    ".3gp .aac .ac3 .adts .aif .aifc .aiff .amr .ape .au .avi .caf .flac .g722 .gsm .m4a .m4b .mka .mkv .mov .mp2 .mp3 .mp4 "
    ".mpeg .mpg .nist .oga .ogg .ogv .opus .ra .rf64 .snd .sph .spx .tta .voc .w64 .wav .wave .webm .wma .wmv .wv .wv1 "
    ".wv2".split()
)
# A length this close to where a counter of 31, 32, 63 or 64 bits ends is not real: sox writes 0x7ffff000, arecord 0x80000000,
# FFmpeg 0xffffffff, others 0xffffffff minus the header.
NEAR = 1 << 16
MOST_CHUNKS = 100_000
OGG_LONGEST_PAGE = 65307  # bytes
# Layer III of MPEG 1 (True) and of MPEG 2 and 2.5, by the four bits of a frame's header; 0: free or forbidden.
MPEG_KBPS = {
    True: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0),
    False: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0),
}
MPEG_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}  # Hz, by version
READ_AHEAD = 1 << 17  # bytes that a decoder may have read past what it decoded: two pages
FLAC_READ_AHEAD = 1 << 15  # libFLAC reads half of that at a time


class Bytes(Protocol):
    """A file, or anything that seeks and reads like one."""

    def read(self, size: int = -1, /) -> bytes: ...
    def seek(self, offset: int, whence: int = 0, /) -> int: ...


@dataclasses.dataclass(frozen=True)
class Extent:
    """How far the audio of a file extends.

    promised: its bytes by the header. there: the bytes up to the end of the file. of_audio: whether these are bytes of audio,
    or of everything in a container.
    repair: bytes to put into the header, by offset, if it does not know the length; otherwise empty.
    """

    promised: int
    there: int
    repair: dict[int, bytes] = dataclasses.field(default_factory=dict)
    of_audio: bool = True

    @property
    def is_known(self) -> bool:
        return not self.repair

    @property
    def is_cut(self) -> bool:
        return self.is_known and self.promised > self.there


@dataclasses.dataclass(frozen=True)
class Chunks:
    """A format made of consecutive chunks, each with an id and a size.

    first: offset of the first chunk. header: of a chunk, for `struct`. audio: the id of the chunk with the audio.
    counted: bytes of its header that a chunk's size includes. aligned: chunks begin at multiples of this.
    """

    first: int
    header: str
    audio: bytes
    counted: int = 0
    aligned: int = 2

    def chunk(self, file: Bytes, at: int) -> tuple[bytes, int] | None:
        """(id, size without the header) of the chunk at this offset; None if there is none."""
        file.seek(at)
        head = file.read(struct.calcsize(self.header))
        if len(head) < struct.calcsize(self.header):
            return None
        name, size = struct.unpack(self.header, head)
        return name, size - self.counted

    def size_field(self, at: int, size: int) -> dict[int, bytes]:
        """The bytes of a chunk's size, by their offset."""
        kind = self.header[0] + self.header[-1]
        offset = at + struct.calcsize(self.header) - struct.calcsize(kind)
        return {offset: struct.pack(kind, size + self.counted)}

    def after(self, at: int, size: int) -> int:
        end = at + struct.calcsize(self.header) + size
        return end + -end % self.aligned


GUID = bytes.fromhex("f3acd3118cd100c04f8edb8a")  # after a Wave64 chunk's four letters
WAV = Chunks(12, "<4sI", b"data")
BIG_ENDIAN_WAV = Chunks(12, ">4sI", b"data")
AIFF = Chunks(12, ">4sI", b"SSND")
AVI = Chunks(0, "<4sI", b"RIFF")
W64 = Chunks(40, "<16sq", b"data" + GUID, counted=24, aligned=8)
CAF = Chunks(8, ">4sq", b"data", aligned=1)


def layout_of(start: bytes) -> Chunks | None:
    """The format of a file that begins with these 40 bytes, if it is made of chunks."""
    kind, form = start[:4], start[8:12]
    if form == b"WAVE":
        return {b"RIFF": WAV, b"RF64": WAV, b"BW64": WAV, b"RIFX": BIG_ENDIAN_WAV}.get(kind)
    if kind == b"FORM" and form in (b"AIFF", b"AIFC"):
        return AIFF
    if kind == b"RIFF" and form == b"AVI ":
        return AVI
    if kind == b"riff" and start[24:28] == b"wave":
        return W64
    return CAF if kind == b"caff" else None


def extent(file: Bytes) -> Extent | None:
    """How far the audio of a file extends, by its header; None for a format that does not say, or that we do not know."""
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    start = file.read(40)
    layout = layout_of(start)
    if layout is not None:
        return _extent_of_chunks(file, layout, size, start[:4] in (b"RF64", b"BW64"))
    if start[:4] == b".snd" and len(start) >= 24:
        at, promised = struct.unpack(">2I", start[4:12])
        return _extent(promised, size - at, size, {8: struct.pack(">I", max(0, min(size - at, 2**32 - 1)))})
    if start[4:8] == b"ftyp":
        return _extent_of_boxes(file, size)
    if start[:4] == b"\x1aE\xdf\xa3":
        return _extent_of_segment(file, size)
    return None


def _extent(promised: int, there: int, size: int, repair: dict[int, bytes]) -> Extent:
    """The extent, with the repair if the header does not know the length."""
    known = 0 < promised <= there or there <= 0 or not is_no_length(promised, size)
    return Extent(promised, there, {} if known else repair)


def is_no_length(length: int, size: int) -> bool:
    """Whether a length was unknown when it was written, or is that of the entire file of `size` bytes."""
    near_the_end_of_a_counter = any(abs(length - (1 << bits)) <= NEAR for bits in (31, 32, 63, 64))
    # placeholders are 2 GiB, one or two less, or less by a header, which has at least 8 bytes; any other number is a claim
    is_a_claim = 2 < (1 << 31) - length < 8
    return length <= 0 or (near_the_end_of_a_counter and not is_a_claim) or length in (size, size - 8)


def _extent_of_chunks(file: Bytes, layout: Chunks, size: int, is_64_bit: bool) -> Extent | None:
    at = layout.first
    for _ in range(MOST_CHUNKS):
        chunk = layout.chunk(file, at)
        if chunk is None:
            return None
        name, length = chunk
        if name == layout.audio:
            break
        at = layout.after(at, length)
        if length < 0 or at > size:
            return None
    else:
        return None
    body = at + struct.calcsize(layout.header)
    there = size - body
    if layout is AVI:
        return Extent(length, there, of_audio=False) if not is_no_length(length, 0) else None
    repair = layout.size_field(at, min(there, 2**32 - 1)) if layout.header[-1] == "I" else layout.size_field(at, there)
    if is_64_bit and length == 0xFFFFFFFF:
        file.seek(12)
        name, *_, length = struct.unpack("<4sIqq", file.read(24).ljust(24, b"\0"))
        if name != b"ds64":
            return None
        repair = {28: struct.pack("<q", there)}
    if length == 0 and _are_chunks(file, layout, body, size):
        return Extent(0, there)
    # the decoders need these to be right too
    if layout is W64:
        repair |= {16: struct.pack("<q", size)}
    elif layout is AIFF:
        repair |= {4: struct.pack(">I", min(size - 8, 2**32 - 1))}
    return _extent(length, there, size - layout.counted, repair)


def _are_chunks(file: Bytes, layout: Chunks, at: int, size: int) -> bool:
    """Whether only complete chunks follow, so that what comes before them is really empty."""
    while at < size:
        chunk = layout.chunk(file, at)
        if chunk is None or chunk[1] < 0 or not chunk[0][:4].decode("latin1").isprintable():
            return False
        at = layout.after(at, chunk[1])
    return at in (size, size + 1)  # a last odd chunk may lack its byte of padding


def _extent_of_boxes(file: Bytes, size: int) -> Extent | None:
    """The extent of the first incomplete box of an MP4; None if all are complete."""
    at = 0
    for _ in range(MOST_CHUNKS):
        file.seek(at)
        head = file.read(16).ljust(16, b"\0")
        length, _, longer = struct.unpack(">I4sQ", head)
        length = longer if length == 1 else length
        if length < 8 or at >= size:  # 0: to the end of the file
            return None
        if at + length > size:
            return Extent(length, size - at, of_audio=False)
        at += length
    return None


def _extent_of_segment(file: Bytes, size: int) -> Extent | None:
    """Matroska and WebM: a header, then a segment with everything else, whose length is unknown in a live recording."""
    at, length = 0, 0
    for identity in (b"\x1aE\xdf\xa3", b"\x18S\x80g"):
        at += length
        file.seek(at)
        head = file.read(12)
        if head[:4] != identity or len(head) < 5 or not head[4]:
            return None
        octets = 9 - head[4].bit_length()
        digits = 7 * octets
        length = int.from_bytes(head[4 : 4 + octets], "big") & ((1 << digits) - 1)
        at += 4 + octets
        if length == (1 << digits) - 1:
            return None
    return Extent(length, size - at, of_audio=False)


# FLAC's mark with the length of the mandatory first block, and the first page of an Ogg stream
FLAC_START = re.compile(rb'fLaC[\x00\x80]\x00\x00"')
OGG_START = re.compile(rb"OggS\x00[\x02\x03\x06\x07].{12}\0\0\0\0", re.DOTALL)
LONGEST_JUNK = 1 << 16  # bytes


def start_after_junk(path: Path) -> int:
    """The offset of a FLAC or Ogg in the first LONGEST_JUNK bytes of a file that begins with something else; 0 if none.

    Ogg and Matroska carry FLAC's own header, which does not begin a file there.
    """
    with open(path, "rb") as file:
        head = file.read(LONGEST_JUNK)
    if head[:4] in (b"OggS", b"\x1aE\xdf\xa3"):
        return 0
    found = FLAC_START.search(head) or OGG_START.search(head)
    return found.start() if found else 0


def next_start(content: bytes | mmap.mmap, start: int, read_to: int) -> int | None:
    """The offset where another file begins after the one at `start`, which was read up to `read_to`; None if there is none.

    Concatenated files play as a single one: radio streams, voice recorders, `cat`.
    """
    head = content[start : start + 12]
    if head[:4] == b".snd":
        after = start + max(24, sum(struct.unpack(">2I", head[4:])))
        return after if content[after : after + 4] == b".snd" else None
    if head[:4] == b"fLaC":
        found = FLAC_START.search(content, max(start + 4, read_to - FLAC_READ_AHEAD))
    elif head[:4] == b"OggS":
        found = OGG_START.search(content, max(start + 4, _first_page_of_data(content, start), read_to - READ_AHEAD))
    else:
        return None
    return found.start() if found else None


def ogg_page(head: bytes) -> int | None:
    """The length of the page that begins with these bytes (282 are enough); None if they are not a page, or too few."""
    if head[:4] != b"OggS" or len(head) < 27 or len(head) < 27 + head[26]:
        return None
    return 27 + head[26] + sum(head[27 : 27 + head[26]])


def _first_page_of_data(content: bytes | mmap.mmap, at: int) -> int:
    """The offset after the pages that begin the streams of an Ogg file at `at` (one each, before all others)."""
    while (length := ogg_page(content[at : at + 282])) and content[at + 5] & 2:
        at += length
    return at


def last_ogg_page_is_whole(file: Bytes) -> bool:
    """Whether the last page of an Ogg file is complete. Ogg does not store the length of the file."""
    size = file.seek(0, io.SEEK_END)
    file.seek(max(0, size - OGG_LONGEST_PAGE))
    end = file.read()
    page = end[max(0, end.rfind(b"OggS")) :]
    length = ogg_page(page)
    return length is not None and len(page) >= length


def id3_size(start: bytes) -> int:
    """The size in bytes of an ID3v2 tag at the start of a file that begins with these 10 bytes; 0 if there is none."""
    if start[:3] != b"ID3" or len(start) < 10 or max(start[6:10]) > 127:
        return 0
    size = functools.reduce(lambda sum, digit: sum << 7 | digit, start[6:10])
    return 10 + size + (10 if start[5] & 16 else 0)


@dataclasses.dataclass(frozen=True)
class MpegPromise:
    """The promise of the Xing, Info or VBRI header of an MPEG stream.

    samples: per channel. is_exact: whether that is exact to the sample, without the encoder's padding, and for the entire
    file; it is not if another stream follows or the end is missing.
    """

    samples: int
    is_exact: bool


def is_mpeg(start: bytes) -> bool:
    """Whether MPEG audio may begin with these two bytes: layers I to III, or AAC in ADTS."""
    return len(start) > 1 and start[0] == 0xFF and start[1] & 0xE0 == 0xE0


def mpeg_promise(file: Bytes) -> MpegPromise | None:
    """The promise of the first frame of a file; None if it makes none, and all lengths are estimates."""
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    frame = file.read(4096)
    if len(frame) < 64 or not is_mpeg(frame):
        return None
    version, layer, mono = frame[1] >> 3 & 3, frame[1] >> 1 & 3, frame[3] >> 6 == 3
    if layer != 1 or version == 1:  # not layer III
        return None
    frame_samples = 1152 if version == 3 else 576
    xing = 4 + ((17 if mono else 32) if version == 3 else (9 if mono else 17))
    if frame[36:40] == b"VBRI":
        _, frames = struct.unpack(">2I", frame[46:54])
        if is_no_length(frames, size):
            return None
        return MpegPromise(frames * frame_samples, is_exact=False)
    if frame[xing : xing + 4] not in (b"Xing", b"Info"):
        return None
    flags, frames, length = struct.unpack(">3I", frame[xing + 4 : xing + 16])
    if not flags & 1 or is_no_length(frames, size):
        return None
    tag = xing + 8 + 4 * (1 + flags // 2 % 2 + flags // 8 % 2) + 100 * (flags // 4 % 2)
    if frame[tag : tag + 4] not in (b"LAME", b"Lavc", b"Lavf"):
        return MpegPromise(frames * frame_samples, is_exact=False)
    padding = int.from_bytes(frame[tag + 21 : tag + 24], "big")
    samples = max(0, frames * frame_samples - (padding >> 12) - (padding & 0xFFF))
    is_exact = bool(flags & 2) and _ends_at(file, length, size) and mpeg_frames(file) == frames + 1
    return MpegPromise(samples, is_exact)


def mpeg_frames(file: Bytes) -> int:
    """The number of consecutive layer III frames at the start of a file, including that of the Xing header."""
    file.seek(0)
    data, at, count = file.read(), 0, 0
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] & 0xE6 == 0xE2:
        version, third = data[at + 1] >> 3 & 3, data[at + 2]
        kbps = MPEG_KBPS[version == 3][third >> 4]
        rates = MPEG_RATES.get(version)
        if not kbps or rates is None or third >> 2 & 3 == 3:
            break
        at += (144 if version == 3 else 72) * 1000 * kbps // rates[third >> 2 & 3] + (third >> 1 & 1)
        count += 1
    return count


def _ends_at(file: Bytes, at: int, size: int) -> bool:
    """Whether the file ends at this offset, except for a tag."""
    if at == size:
        return True
    file.seek(min(at, size))
    tail = file.read(4096)
    return size - at == 128 and tail[:3] == b"TAG" or 0 < size - at < 4096 and tail[:8] == b"APETAGEX"
