"""English speech with the times of its phonemes, and pronunciations of unknown words, by eSpeak NG.

eSpeak NG comes in the wheel `espeakng-loader` (an extra: it is GPL) and is called through ctypes. It keeps hidden state
between utterances, and some of its voices draw random numbers, so nothing is ever synthesized in the calling process. A
forked child makes each utterance, starting from the library as it was right after initialization, with seeded random
numbers: the same arguments give the same bytes, in any process and in any order.
"""

from __future__ import annotations

import ctypes
import functools
import json
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from asr.errors import UserError, nearest

# The 39 phonemes of cmudict, without stress.
ARPABET = tuple(
    "AA AE AH AO AW AY B CH D DH EH ER EY F G HH IH IY JH K L M N NG OW OY P R S SH T TH UH UW V W Y Z ZH".split()
)

# eSpeak's IPA (without stress marks) to ARPAbet, for its English accents. Our choices:
# - where accents differ, the sound decides: British "car" is AA, American "car" is AA R; British -er is AH, American ER;
# - the flap of "water" and the glottal stop of "button" are T, as in cmudict (eSpeak flaps only t);
# - syllabic l and n are AH L and AH N; a vowel that includes its r is that vowel and R;
# - centring diphthongs without r end in AH if the glide is audible ("near" IY AH), and are the bare vowel before R.
_IPA = """
AA = ɑː ɑ ɒ aː a: aa ɑ̃ ɑə; AE = æ a ɛə; AH = ɐ ə ʌ ɜ; AO = ɔː ɔ o oə ɔə; AW = aʊ æʊ ʌʉ; AY = aɪ; B = b; CH = tʃ;
D = d; DH = ð; EH = ɛ; ER = ɜː ɚ əɪ; EY = e eː eɪ; F = f; G = ɡ; HH = h; IH = ɪ ᵻ; IY = iː i ei; JH = dʒ; K = k x;
L = l; M = m; N = n; NG = ŋ; OW = oʊ əʊ ʌʊ oː; OY = ɔɪ oɪ; P = p; R = ɹ r; S = s; SH = ʃ; T = t ɾ ʔ t̪; TH = θ;
UH = ʊ; UW = uː ʉː ʉ əu; V = v; W = w ʍ; Y = j; Z = z; ZH = ʒ; AA R = ɑːɹ; AH L = əl; AH N = n̩; AH R = əɹ ʌɹ;
AO R = ɔːɹ oːɹ; AW AH = aʊə; AY AH = aɪə; AY ER = aɪɚ; EH AH = eə; EH R = ɛɹ; IH R = ɪɹ; IY AH = iə; UH AH = ʊə;
UH R = ʊɹ; UW R = ʉɹ
"""
_ARPABET_OF_IPA = {
    ipa: phones.split()
    for phones, symbols in (entry.split("=") for entry in _IPA.split(";"))
    for ipa in symbols.split()
}
_BEFORE_R = {"iə": "IH", "e": "EH", "eə": "EH", "ʊə": "UH", "oː": "AO"}

Segment = tuple[str, float, float]  # symbol, start in seconds, duration in seconds

# Seconds; a shorter silence belongs to the phoneme before it (eSpeak marks glides and closures that way).
_SHORTEST_PAUSE = 0.06
# Seconds; eSpeak may give a phoneme no time of its own, because it is part of its neighbour; it then gets this much of it.
_SHORTEST_PHONEME = 0.01


class Utterance(NamedTuple):
    """samples: int16 (samples,) at `sample_rate` Hz. phonemes (ARPAbet), words: (symbol, start, duration), in seconds."""

    samples: np.ndarray
    sample_rate: int
    phonemes: list[Segment]
    words: list[Segment]


def languages() -> list[str]:
    """eSpeak's English accents: "en-us", "en" (British), "en-gb-scotland" …"""
    files = (_data_folder() / "lang" / "gmw").iterdir()
    # en-Shaw reads another alphabet, Shavian.
    return sorted(file.name.lower() for file in files if file.name.startswith("en") and file.name != "en-Shaw")


def variants() -> list[str]:
    """The voices that can speak any accent: "m3", "f2", "Andy" …"""
    return sorted(file.name for file in (_data_folder() / "voices" / "!v").iterdir())


def voices() -> list[str]:
    """Everything that `synthesize` accepts as a voice: "en-us", and "en-us+m3" for every accent and variant."""
    return [name for language in languages() for name in (language, *(f"{language}+{v}" for v in variants()))]


def synthesize(
    text: str, voice: str = "en-us+m3", rate: int = 175, pitch: int = 50, pitch_range: int = 50, seed: int = 1
) -> Utterance:
    """Speaks `text`: the same arguments give the same bytes.

    voice: one of `voices()`. rate: words per minute, 80-450. pitch, pitch_range: 0-100, 50 is the voice's own. seed: of the
    random numbers that some voices draw. Words are the stretches of `text` between spaces, without punctuation. Raises
    UserError for an unknown voice or phoneme, and if eSpeak NG is not installed.
    """
    _check_voice(voice)
    header, data = _in_child(text, voice, rate, pitch, pitch_range, seed)
    samples = np.frombuffer(data, dtype=np.int16)
    end = len(samples) / header["sample_rate"]
    phonemes, words = _segments(header["events"], text, end)
    return Utterance(samples, header["sample_rate"], phonemes, words)


@functools.lru_cache(maxsize=65536)
def _pronounce(word: str, language: str) -> tuple[str, ...]:
    header, _ = _in_child(word, language, 175, 50, 50, 1)
    symbols = [name for kind, _, name, _ in header["events"] if kind == _PHONEME]
    return tuple(phone for phones in to_arpabet(symbols) for phone in phones)


def pronounce(word: str, language: str = "en-us") -> list[str]:
    """eSpeak's pronunciation of `word`, in ARPAbet without stress. Raises UserError if it says nothing."""
    _check_voice(language)
    phonemes = list(_pronounce(word, language))
    if not phonemes:
        raise UserError(f"eSpeak NG finds nothing to pronounce in {word!r}: write it with letters or digits.")
    return phonemes


def to_arpabet(symbols: list[str]) -> list[list[str]]:
    """The ARPAbet phonemes of each IPA symbol of an utterance; [] for a pause. Raises UserError for an unknown symbol."""
    plain = [symbol.replace("ˈ", "").replace("ˌ", "").replace("ʲ", "") for symbol in symbols]
    result: list[list[str]] = []
    for symbol, following in zip(plain, [*plain[1:], ""]):
        if symbol == "":
            result.append([])
        elif symbol in _BEFORE_R and following in ("ɹ", "r"):
            result.append([_BEFORE_R[symbol]])
        elif symbol in _ARPABET_OF_IPA:
            result.append(_ARPABET_OF_IPA[symbol])
        else:
            raise UserError(
                f"eSpeak NG said {symbol!r}, a sound without an ARPAbet phoneme. Spell the word in English, or add the "
                "sound to asr/text/espeak.py."
            )
    return result


def _segments(events: list[tuple[int, int, str, float]], text: str, end: float) -> tuple[list[Segment], list[Segment]]:
    """Phoneme and word segments from eSpeak's events (type, position in the text, symbol, seconds)."""
    spoken = [(name, start) for kind, _, name, start in events if kind == _PHONEME]
    arpabet = to_arpabet([name for name, _ in spoken])
    starts = [start for _, start in spoken] + [end]
    phonemes: list[list] = []
    for phones, start, stop in zip(arpabet, starts, starts[1:]):
        if not phones:
            if phonemes and phonemes[-1][2] == start and stop - start < _SHORTEST_PAUSE and stop < end:
                phonemes[-1][2] = stop
            continue
        stop = max(stop, start)
        if stop - start < _SHORTEST_PHONEME * len(phones) and phonemes:
            before = phonemes[-1]
            start = max(before[1] + _SHORTEST_PHONEME, stop - _SHORTEST_PHONEME * len(phones))
            before[2] = min(before[2], start)
        step = (stop - start) / len(phones)
        phonemes.extend([phone, start + i * step, start + (i + 1) * step] for i, phone in enumerate(phones))
    return [(phone, start, stop - start) for phone, start, stop in phonemes], _word_segments(
        events, text, phonemes, end
    )


def _word_segments(events: list, text: str, phonemes: list[list], end: float) -> list[Segment]:
    """Every word of `text` with its time. The few words that eSpeak joins share their time by number of letters."""
    tokens, position = [], 0
    for token in text.split():
        position = text.index(token, position)
        word = token.strip('.,;:!?"()-')
        if word:
            tokens.append((word, position, position + len(token)))
        position += len(token)
    starts: dict[int, float] = {}
    for kind, where, _, start in events:
        if kind == _WORD:
            for i, (_, first, last) in enumerate(tokens):
                if first <= where - 1 < last:
                    starts.setdefault(i, start)
    groups = sorted(starts)
    words: list[Segment] = []
    for i, following in zip(groups, [*groups[1:], len(tokens)]):
        first = starts[i]
        limit = starts[following] if following in starts else end
        # From its first phoneme to its last: a pause after the word is not part of it.
        inside = [(begin, stop) for _, begin, stop in phonemes if first - 1e-3 <= begin < limit - 1e-3]
        first, last = (inside[0][0], inside[-1][1]) if inside else (first, limit)
        members = [word for word, _, _ in tokens[i:following]]
        letters, length = sum(map(len, members)), last - first
        for word in members:
            duration = length * len(word) / letters
            words.append((word, first, duration))
            first += duration
    return words


# The C interface (speak_lib.h, espeak_ng.h of eSpeak NG 1.52).
_SYNCHRONOUS, _PHONEME_EVENTS, _PHONEME_IPA, _DONT_EXIT, _UTF8 = 2, 1, 2, 0x8000, 1
_RATE, _PITCH, _RANGE = 1, 3, 4
_END, _WORD, _PHONEME = 0, 1, 7


class _EventName(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class _Event(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _EventName),
    ]


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


@functools.lru_cache(maxsize=1)
def _loader():
    try:
        import espeakng_loader
    except ImportError:
        raise UserError(
            "eSpeak NG is not installed, but is needed for speech or pronunciations. "
            'Install it with: pip install "asr[spoken]" (or: pip install espeakng-loader).'
        ) from None
    return espeakng_loader


def require() -> None:
    """Raises UserError if eSpeak NG is not installed."""
    _loader()


def _data_folder() -> Path:
    return Path(_loader().get_data_path())


@functools.lru_cache(maxsize=1)
def _library() -> tuple[ctypes.CDLL, int]:
    """The library, initialized and never used to synthesize in this process, and its sample rate in Hz."""
    library = ctypes.CDLL(str(_loader().get_library_path()))
    options = _PHONEME_EVENTS | _PHONEME_IPA | _DONT_EXIT
    rate = library.espeak_Initialize(_SYNCHRONOUS, 0, str(_data_folder()).encode(), options)
    if rate <= 0:
        raise UserError(f"eSpeak NG cannot read its data in {_data_folder()}: reinstall espeakng-loader.")
    library.espeak_ListVoices(None)  # reads the list of voices once, instead of in every child
    return library, rate


@functools.lru_cache(maxsize=4096)
def _check_voice(voice: str) -> None:
    # eSpeak itself accepts an unknown variant silently.
    language, plus, variant = voice.partition("+")
    if language not in languages():
        raise UserError(f"eSpeak NG has no English accent {language!r}: {nearest(language, languages())}.")
    if plus and variant not in variants():
        raise UserError(f"eSpeak NG has no voice {variant!r} (in {voice!r}): {nearest(variant, variants())}.")


def _in_child(text: str, voice: str, rate: int, pitch: int, pitch_range: int, seed: int) -> tuple[dict, bytes]:
    """Synthesizes in a forked child; returns {"sample_rate", "events"} and the samples' bytes."""
    library, sample_rate = _library()
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(read)
            with os.fdopen(write, "wb") as pipe:
                try:
                    events, samples = _speak(library, sample_rate, text, voice, rate, pitch, pitch_range, seed)
                    header = {"sample_rate": sample_rate, "events": events}
                except Exception as error:
                    header, samples = {"error": repr(error)}, []
                pipe.write(json.dumps(header).encode() + b"\n")
                pipe.writelines(samples)
            status = 0
        finally:
            os._exit(status)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        content = pipe.read()
    _, status = os.waitpid(child, 0)
    first, _, data = content.partition(b"\n")
    header = json.loads(first) if status == 0 else {"error": f"wait status {status}"}
    if "error" in header:
        raise RuntimeError(f"eSpeak NG failed on voice {voice!r}, text {text!r}: {header['error']}")
    return header, data


def _speak(library, sample_rate, text, voice, rate, pitch, pitch_range, seed) -> tuple[list, list[bytes]]:
    """Runs in the child: events as (type, position in the text, symbol, seconds), and the samples in pieces."""
    events: list[tuple[int, int, bytes, float]] = []
    samples: list[bytes] = []

    @_Callback
    def collect(wave, count, batch):
        i = 0
        while batch[i].type != _END:
            event = batch[i]
            if event.type in (_WORD, _PHONEME):
                name = event.id.string if event.type == _PHONEME else b""
                events.append((event.type, event.text_position, name, event.sample / sample_rate))
            i += 1
        if wave and count > 0:
            samples.append(ctypes.string_at(wave, 2 * count))
        return 0

    library.espeak_ng_SetRandSeed(ctypes.c_long(seed))
    ctypes.CDLL(None).srand(seed)
    library.espeak_SetSynthCallback(collect)
    if library.espeak_SetVoiceByName(voice.encode()) != 0:
        raise RuntimeError(f"eSpeak NG does not accept the voice {voice!r}")
    for parameter, value in ((_RATE, rate), (_PITCH, pitch), (_RANGE, pitch_range)):
        library.espeak_SetParameter(parameter, value, 0)
    data = text.encode()
    library.espeak_Synth(data, ctypes.c_size_t(len(data) + 1), 0, 1, 0, _UTF8, None, None)
    library.espeak_Synchronize()
    # Decoded here, because ctypes would swallow an exception in the callback.
    return [(kind, position, name.decode("utf8"), start) for kind, position, name, start in events], samples
