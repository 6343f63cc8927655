"""Audio files of every container and codec that soundfile and PyAV write, whole and as the field has them: cut short, joined,
streamed, without a length, with something in front. And how many samples FFmpeg decodes of them."""

from __future__ import annotations

import functools
import io
import struct
from pathlib import Path

import av
import numpy
import soundfile

SECONDS = 1.3

# The formats of libsndfile with their codings; a rate other than 16000 Hz behind a colon.
BY_SOUNDFILE = {
    "WAV": "PCM_16 PCM_24 PCM_32 PCM_U8 FLOAT DOUBLE ULAW ALAW IMA_ADPCM MS_ADPCM GSM610 G721_32 NMS_ADPCM_16 NMS_ADPCM_24 "
    "NMS_ADPCM_32",
    "WAVEX": "PCM_16 PCM_24 PCM_32 PCM_U8 FLOAT DOUBLE ULAW ALAW",
    "RF64": "PCM_16 PCM_24 PCM_32 PCM_U8 FLOAT DOUBLE ULAW ALAW",
    "W64": "PCM_16 PCM_24 PCM_32 PCM_U8 FLOAT DOUBLE ULAW ALAW IMA_ADPCM MS_ADPCM GSM610",
    "AIFF": "PCM_S8 PCM_16 PCM_24 PCM_32 PCM_U8 FLOAT DOUBLE ULAW ALAW IMA_ADPCM GSM610",
    "AU": "PCM_S8 PCM_16 PCM_24 PCM_32 FLOAT DOUBLE ULAW ALAW G721_32 G723_24 G723_40",
    "CAF": "PCM_S8 PCM_16 PCM_24 PCM_32 FLOAT DOUBLE ULAW ALAW ALAC_16 ALAC_20 ALAC_24 ALAC_32",
    "FLAC": "PCM_S8 PCM_16 PCM_24",
    "OGG": "VORBIS OPUS",
    "MP3": "MPEG_LAYER_III",
    "NIST": "PCM_S8 PCM_16 PCM_24 PCM_32 ULAW ALAW",
    "AVR": "PCM_S8 PCM_16 PCM_U8",
    "HTK": "PCM_16",
    "SVX": "PCM_S8 PCM_16",
    "MAT4": "PCM_16 PCM_32 FLOAT DOUBLE",
    "MAT5": "PCM_16 PCM_32 PCM_U8 FLOAT DOUBLE",
    "MPC2K": "PCM_16",
    "PAF": "PCM_S8 PCM_16 PCM_24",
    "PVF": "PCM_S8 PCM_16 PCM_32",
    "SDS": "PCM_S8 PCM_16 PCM_24",
    "IRCAM": "PCM_16 PCM_32 FLOAT ULAW ALAW",
    "VOC": "PCM_16 PCM_U8 ULAW ALAW",
    "WVE": "ALAW:8000",
    "XI": "DPCM_16:44100 DPCM_8:44100",
}
COMMON = "pcm_alaw pcm_mulaw pcm_f32le pcm_f64le pcm_s16le pcm_s24le pcm_s32le pcm_u8 adpcm_ima_wav adpcm_ms adpcm_yamaha g722 "
COMMON += "dfpwm libmp3lame mp2 ac3:48000 eac3:48000 "
MOV = "aac alac ac3:48000 eac3:48000 libmp3lame mp2 pcm_s16le pcm_s16be pcm_s24le pcm_f32le "
# The same of FFmpeg, by the suffix of the file; behind a slash what FFmpeg calls the container, where the suffix does not.
BY_FFMPEG = {
    "wav": COMMON + "g726:8000 pcm_s64le libopencore_amrnb:8000",
    "w64": COMMON.replace("libmp3lame", "libmp3lame:48000") + "g726:8000",
    "aiff": "pcm_s16be pcm_s16le pcm_s24be pcm_s32be pcm_f32be pcm_f64be pcm_s8 pcm_u8 pcm_alaw pcm_mulaw adpcm_ima_qt",
    "au": "pcm_s16be pcm_s24be pcm_s32be pcm_f32be pcm_f64be pcm_s8 pcm_alaw pcm_mulaw g722 g726le:8000",
    "caf": "pcm_s16be pcm_s16le pcm_s24le pcm_f32be pcm_f64le pcm_alaw pcm_mulaw pcm_s8 alac adpcm_ima_qt adpcm_ms libmp3lame "
    "mp2 ac3:48000 libopencore_amrnb:8000",
    "flac": "flac",
    "ogg": "libopus",
    "oga": "libopus",
    "opus": "libopus",
    "mp3": "libmp3lame",
    "mp2": "mp2",
    "aac/adts": "aac",
    "latm": "aac",
    "m4a/ipod": "aac alac ac3:48000",
    "mp4": MOV + "libopus",
    "mov": MOV + "libopencore_amrnb:8000 pcm_alaw pcm_mulaw nellymoser adpcm_ima_qt",
    "3gp": "aac libopencore_amrnb:8000",
    "mkv/matroska": "aac alac libopus ac3:48000 eac3:48000 libmp3lame mp2 pcm_s16le pcm_s16be pcm_s24le pcm_f32le pcm_u8 tta "
    "real_144:8000",
    "webm": "libopus",
    "avi": COMMON + "aac",
    "wma/asf": COMMON + "aac",
    "wtv": COMMON + "flac",
    "flv": "aac libmp3lame:48000 nellymoser pcm_alaw pcm_mulaw pcm_s16le pcm_u8",
    "ts/mpegts": "aac libopus mp2 libmp3lame ac3:48000 eac3:48000",
    "mpg/mpeg": "mp2 libmp3lame ac3:48000",
    "nut": "aac libopus libmp3lame pcm_s16le pcm_f32le adpcm_ms g722",
    "rm": "aac ac3:48000 real_144:8000",
    "wv": "wavpack",
    "tta": "tta",
    "amr": "libopencore_amrnb:8000",
    "ac3": "ac3:48000",
    "eac3": "eac3:48000",
    "adx": "adpcm_adx",
    "voc": "pcm_s16le pcm_u8 pcm_alaw pcm_mulaw",
    "sox": "pcm_s32le pcm_s32be",
    "sf/ircam": "pcm_s16le pcm_s24le pcm_f32le pcm_alaw pcm_mulaw pcm_s8",
    "mmf": "adpcm_yamaha:8000",
    "ast": "pcm_s16be_planar",
}


def kinds(table: dict[str, str]) -> list[tuple[str, str, int]]:
    """(container, codec, sample rate) of every file that a table lists."""
    named = [(container, *codec.partition(":")) for container, codecs in table.items() for codec in codecs.split()]
    return [(container, codec, int(rate or 16000)) for container, codec, _, rate in named]


@functools.cache
def tone(sample_rate: int, seconds: float = SECONDS, channels: int = 1) -> numpy.ndarray:
    """A tone in a little noise, which no codec makes vanish: (samples, channels) float32."""
    samples = round(seconds * sample_rate)
    noise = numpy.random.default_rng(0).standard_normal(samples)
    wave = 0.3 * numpy.sin(numpy.arange(samples) * 2 * numpy.pi * 300 / sample_rate) + 0.02 * noise
    return numpy.repeat(wave.astype(numpy.float32)[:, None], channels, axis=1)


@functools.cache
def by_soundfile(container: str, codec: str, rate: int, seconds: float = SECONDS, channels: int = 1) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, tone(rate, seconds, channels), rate, format=container, subtype=codec)
    return file.getvalue()


class Pipe:
    """What can be written to, and nothing else: a length that is not known at first is never known."""

    def __init__(self):
        self.file = io.BytesIO()
        self.write = self.file.write


@functools.cache
def by_ffmpeg(container: str, codec: str, rate: int, streamed: bool = False, options: tuple = ()) -> bytes:
    """options: of the container, as (name, value)."""
    out = Pipe() if streamed else io.BytesIO()
    suffix, _, name = container.partition("/")
    with av.open(out, "w", format=name or suffix, options=dict(options)) as file:
        stream = file.add_stream(codec, rate=rate, layout="mono")
        samples = (tone(rate)[:, 0] * 32767).astype(numpy.int16)
        frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
        frame.sample_rate = rate
        resampler = av.AudioResampler(stream.format, stream.layout, stream.rate, stream.frame_size or None)
        for piece in (*resampler.resample(frame), *resampler.resample(None), None):
            file.mux(stream.encode(piece))
    return (out.file if streamed else out).getvalue()


def decoded_by_ffmpeg(path: Path) -> float | None:
    """Seconds that FFmpeg decodes of a file's first stream of audio, over what it cannot; None where it is nothing to it."""
    seconds = 0.0
    try:
        with av.open(str(path)) as file:
            for packet in file.demux(audio=0):
                try:
                    seconds += sum(frame.samples / frame.sample_rate for frame in packet.decode())
                except av.error.InvalidDataError:
                    continue
    except (av.error.FFmpegError, IndexError, ValueError):
        return None
    return seconds or None


def with_length(container: str, data: bytes, length: int) -> bytes:
    """The file with another length in its header: of the audio, and of the whole where that stands there too."""
    changed = bytearray(data)

    def put(place: int, kind: str) -> None:
        signed = kind[-1] == "q" and length == 0xFFFFFFFF
        changed[place : place + struct.calcsize(kind)] = struct.pack(kind, -1 if signed else length)

    if container in ("WAV", "WAVEX"):
        put(4, "<I")
        put(data.index(b"data") + 4, "<I")
    elif container == "AIFF":
        put(4, ">I")
        put(data.index(b"SSND") + 4, ">I")
    elif container == "AU":
        put(8, ">I")
    elif container == "CAF":
        put(data.rindex(b"data", 0, 4200) + 4, ">q")
    elif container == "W64":
        put(16, "<q")
        put(data.index(b"data\xf3\xac") + 16, "<q")
    elif container == "RF64":
        put(20, "<q")
        put(28, "<q")
    elif container == "FLAC":  # 36 bits, of which none but 0 says that it is not known
        changed[21] &= 0xF0
        changed[22:26] = bytes(4)
    return bytes(changed)


def id3(size: int = 256) -> bytes:
    """A tag such as stands before MP3s, and before other files where a program did not know better."""
    return b"ID3\x04\0\0" + bytes((0, 0, size >> 7, size & 127)) + bytes(size)
