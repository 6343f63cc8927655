"""Which file, channel and sample rate an entry of Kaldi's wav.scp reads, judged by its words: nothing is ever run.

An entry that ends in `|` is a shell command. If it is a pipeline of sph2pipe, sox, ffmpeg, flac or cat that decodes one
file, its options say what our own readers have to do. Any other command, and any option that would change the sound, is
refused by name: https://kaldi-asr.org/doc/data_prep.html#data_prep_data_yours
"""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Callable, Iterator

KNOWN = "sph2pipe, sox, ffmpeg, flac and cat"
STANDARD_INPUT = {"-", "pipe:", "pipe:0", "/dev/stdin"}
STANDARD_OUTPUT = {"-", "pipe:", "pipe:1", "/dev/stdout"}
# formats that store their rate and channels; for any other the command would have to give them
DESCRIBED = set(
    "aac aif aifc aiff amr-nb amr-wb au caf flac m4a matroska mov mp2 mp3 mp4 nist ogg opus sph vorbis".split()
)
DESCRIBED |= {"w64", "wav", "wavpcm", "webm", "wv"}
WAV = {"wav", "wavpcm", "rif"}
SIGNED = {"signed-integer", "signed", "pcm_s16le", "pcm_s24le", "pcm_s32le"}
SHELL = set(";&|<>()")


class NotRead(Exception):
    """Why an entry cannot be read here, as a clause."""


@dataclasses.dataclass(frozen=True)
class Reading:
    """file: as the entry names it; `-` for the output of the previous command. channel: from 0; None for the mean of all.
    rate: Hz to resample to; None for the rate of the file."""

    file: str
    channel: int | None = None
    rate: int | None = None


def reading_of(entry: str) -> Reading:
    """What an entry of wav.scp reads. Raises NotRead."""
    if not entry.endswith("|"):
        if entry.startswith("|"):
            raise NotRead("it writes to a command")
        if re.search(r"\.ark:\d+(\[.*\])?$", entry):
            raise NotRead("it points into an archive: write the recordings to files of their own")
        return Reading(entry)
    reading: Reading | None = None
    for words in commands(entry.removesuffix("|")):
        program, arguments = words[0].rpartition("/")[2], words[1:]
        if program not in PROGRAMS:
            raise NotRead(f"`{program}` is not one of {KNOWN}")
        if any("$" in word for word in arguments):
            raise NotRead("it uses a shell variable")
        try:
            stage = PROGRAMS[program](arguments)
        except NotRead as reason:
            raise NotRead(f"{program}: {reason}") from None
        if (stage.file in STANDARD_INPUT) != (reading is not None):
            raise NotRead(f"{program} does not read " + ("what comes before it" if reading else "a file"))
        reading = stage if reading is None else joined(reading, stage)
    if reading is None:
        raise NotRead("a command is missing")
    return reading


def commands(line: str) -> Iterator[list[str]]:
    """The words of each command in a pipeline. Raises NotRead for any other shell syntax."""
    line = re.sub(r"\s2>\s*/dev/null(?=\s|$)", " ", line)
    if "`" in line:
        raise NotRead("it uses command substitution (`)")
    lexer = shlex.shlex(line, posix=True, punctuation_chars="".join(SHELL))
    lexer.whitespace_split, lexer.commenters = True, ""
    try:
        words = list(lexer)
    except ValueError:
        raise NotRead("its quotation marks do not match") from None
    command: list[str] = []
    for word in [*words, "|"]:
        if word == "|":
            if not command:
                raise NotRead("a command is missing")
            yield command
            command = []
        elif set(word) <= SHELL:
            raise NotRead(f"it uses `{word}`")
        else:
            command.append(word)


def joined(first: Reading, second: Reading) -> Reading:
    """The combined reading of two consecutive commands."""
    if first.channel is not None and second.channel:
        raise NotRead(f"it asks for channel {second.channel + 1} of mono audio")
    channel = second.channel if first.channel is None else first.channel
    return Reading(first.file, channel, second.rate or first.rate)


def sph2pipe(arguments: list[str]) -> Reading:
    """sph2pipe [-f wav] [-p] [-c 1|2] FILE"""
    files, channel, words = [], None, iter(arguments)
    for word in words:
        if word == "-c":
            channel = channel_of(value(words, word), first=1)
        elif word == "-f":
            among(value(words, word), WAV, word)
        elif word.startswith("-") and word not in ("-p", "-"):
            raise NotRead(f"the option {word} is not known here")
        elif word != "-p":
            files.append(word)
    return Reading(only(files), channel)


def flac(arguments: list[str]) -> Reading:
    """flac -c -d [-s] FILE"""
    long = {"--stdout": "c", "--decode": "d", "--silent": "s", "--totally-silent": "s", "--force": "f"}
    files, flags = [], ""
    for word in arguments:
        if word.startswith("-") and word != "-":
            flags += long.get(word, word[1:])
            if set(word[1:]) - set("cdsfF") and word not in long:
                raise NotRead(f"the option {word} is not known here")
        else:
            files.append(word)
    if not {"c", "d"} <= set(flags):
        raise NotRead("it does not decode to standard output (-c -d)")
    return Reading(only(files))


def cat(arguments: list[str]) -> Reading:
    """cat FILE"""
    if any(word.startswith("-") and word != "-" for word in arguments):
        raise NotRead("its options are not known here")
    return Reading(only(arguments))


def sox(arguments: list[str]) -> Reading:
    """sox [-t wav] FILE [-r 16k] [-c 1] [-b 16] [-e signed-integer] -t wav - [remix 1] [rate 16k] [channels 1]"""
    files, rate, words = [], None, iter(arguments)
    for word in words:
        if word == "-" or not word.startswith("-"):
            files.append(word)
            if len(files) == 2:
                break
        elif word == "-t":
            among(value(words, word).lstrip("."), WAV if files else DESCRIBED, word)
        elif word == "-e":
            among(value(words, word), SIGNED, word)
        elif word == "-c":
            single(value(words, word), word)
        elif word == "-r" and files:
            rate = hertz(value(words, word))
        elif word in ("-b", "--buffer"):
            value(words, word)
        elif not re.fullmatch(r"-G|-D|-R|-V\d?|-q|-S|-s|-2|--guard|--no-dither", word):
            raise NotRead(f"the option {word} is not known here")
    if len(files) < 2 or files[1] not in STANDARD_OUTPUT:
        raise NotRead("it does not write to standard output")
    channel, changed = effects(words)
    return Reading(files[0], channel, changed or rate)


def effects(words: Iterator[str]) -> tuple[int | None, int | None]:
    """(channel, rate) that sox's effects choose; None where they choose none."""
    channel, rate = None, None
    for effect in words:
        if effect == "remix":
            chosen = value(words, effect)
            channel = None if chosen == "-" else channel_of(chosen, first=1)
        elif effect == "channels":
            single(value(words, effect), effect)
        elif effect == "rate":
            while (chosen := value(words, effect)).startswith("-"):
                pass
            rate = hertz(chosen)
        elif effect == "speed":
            raise NotRead(
                "it changes the speed, as utils/perturb_data_dir_speed.sh does: give the folder that this one was made from, and "
                "features.speed_perturbation=[0.9,1.0,1.1]"
            )
        elif effect not in ("dither", "-s", "-S", "-a"):  # the options of dither
            raise NotRead(f"the effect {effect} changes the sound")
    return channel, rate


def ffmpeg(arguments: list[str]) -> Reading:
    """ffmpeg [-loglevel quiet] -i FILE [-f wav] [-ar 16000] [-ac 1] [-acodec pcm_s16le] [-map_channel 0.0.0] -"""
    files, outputs, channel, rate, words = [], [], None, None, iter(arguments)
    for word in words:
        if word == "-i":
            files.append(value(words, word))
        elif word == "-f":
            among(value(words, word), WAV if files else DESCRIBED, word)
        elif word == "-ar" and files:
            rate = hertz(value(words, word))
        elif word == "-ac" and files:
            single(value(words, word), word)
        elif word in ("-acodec", "-codec:a", "-c:a", "-codec", "-c") and files:
            among(value(words, word), SIGNED, word)
        elif word == "-map_channel" and files:
            channel = channel_of(value(words, word).removeprefix("0.0."), first=0)
        elif word == "-map" and files:
            among(value(words, word), {"0", "a", "0:a", "0:a:0"}, word)
        elif word in (
            "-loglevel",
            "-v",
            "-threads",
            "-sample_fmt",
            "-ab",
            "-b:a",
            "-map_metadata",
            "-fflags",
            "-flags",
        ):
            value(words, word)
        elif word == "-" or not word.startswith("-"):
            outputs.append(word)
        elif word not in ("-hide_banner", "-nostdin", "-nostats", "-y", "-vn", "-sn", "-dn", "-bitexact"):
            raise NotRead(f"the option {word} is not known here")
    if only(outputs) not in STANDARD_OUTPUT:
        raise NotRead("it does not write to standard output")
    return Reading(only(files), channel, rate)


PROGRAMS: dict[str, Callable[[list[str]], Reading]] = {
    "sph2pipe": sph2pipe, "sox": sox, "ffmpeg": ffmpeg, "flac": flac, "cat": cat
}  # fmt: skip


def value(words: Iterator[str], option: str) -> str:
    for word in words:
        return word
    raise NotRead(f"{option} has no value")


def among(word: str, known: set[str], option: str) -> None:
    if word not in known:
        raise NotRead(f"{option} {word} is not known here")


def single(channels: str, option: str) -> None:
    if channels != "1":
        raise NotRead(f"{option} {channels} gives several channels")


def only(files: list[str]) -> str:
    if len(files) != 1:
        raise NotRead(f"it names {len(files)} files instead of one")
    return files[0]


def channel_of(text: str, first: int) -> int:
    if not re.fullmatch(r"\d{1,3}", text) or int(text) < first:
        raise NotRead(f"{text} is not one channel")
    return int(text) - first


def hertz(text: str) -> int:
    """16000 for `16000`, `16k` and `16.0k`."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(k?)", text)
    rate = float(found[1]) * (1000 if found[2] else 1) if found else 0
    if not 1000 <= rate <= 384000 or rate != int(rate):
        raise NotRead(f"{text} is not a sample rate")
    return int(rate)
