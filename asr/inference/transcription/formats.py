"""Transcripts as text, JSON, SubRip, WebVTT and CTM."""

from __future__ import annotations

import html
import json
from collections.abc import Callable
from typing import Any

from asr.inference.alignment.ctm import ctm
from asr.inference.transcription import Transcript
from asr.inference.transcription.inputs import Source
from asr.inference.transcription.subtitles import Subtitle, subtitles


def text(transcript: Transcript) -> str:
    """One line per segment: paragraphs of up to half a minute, ended by pauses."""
    return "".join(" ".join(item.text for item in items) + "\n" for items in transcript.segment_items()) or "\n"


def as_data(transcript: Transcript) -> dict[str, Any]:
    """file, seconds, text, kind ("words" or "phonemes"), segments, and words with start and end in seconds and a confidence: the
    word's posterior probability if the decoder finds words, else an acoustic one (`asr.inference.alignment.words.group`)."""
    return {
        "file": transcript.name,
        "seconds": round(transcript.seconds, 3),
        "skipped_seconds": round(transcript.skipped_seconds, 3),
        "text": transcript.text,
        "kind": transcript.kind,
        "segments": [
            {
                "start": round(items[0].start, 3),
                "end": round(items[-1].end, 3),
                "text": " ".join(item.text for item in items),
            }
            for items in transcript.segment_items()
        ],
        "words": [
            {
                "word": item.text,
                "start": round(item.start, 3),
                "end": round(item.end, 3),
                "confidence": round(item.confidence, 4),
            }
            for item in transcript.items
        ],
    }


def pretty_json(transcript: Transcript) -> str:
    return json.dumps(as_data(transcript), ensure_ascii=False, indent=1) + "\n"


def srt(transcript: Transcript) -> str:
    """SubRip: numbered subtitles, times with a comma."""
    parts = [
        f"{number}\n{clock(one.start, ',')} --> {clock(one.end, ',')}\n{joined(one)}\n"
        for number, one in enumerate(subtitles(transcript.items), start=1)
    ]
    return "\n".join(parts)


def vtt(transcript: Transcript) -> str:
    """WebVTT (W3C): a header, times with a point, and `&`, `<` and `>` escaped."""
    parts = [
        f"{clock(one.start, '.')} --> {clock(one.end, '.')}\n{html.escape(joined(one), quote=False)}\n"
        for one in subtitles(transcript.items)
    ]
    return "\n".join(["WEBVTT\n", *parts])


def ctm_lines(transcript: Transcript) -> str:
    return ctm(transcript.recording or Source(transcript.name).stem, transcript.items, transcript.channel)


def joined(subtitle: Subtitle) -> str:
    return "\n".join(subtitle.lines)


def clock(seconds: float, point: str) -> str:
    """`01:02:03,456`."""
    milliseconds = round(1000 * seconds)
    minutes, milliseconds = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{milliseconds // 1000:02d}{point}{milliseconds % 1000:03d}"


FORMATS: dict[str, Callable[[Transcript], str]] = {
    "text": text,
    "json": pretty_json,
    "srt": srt,
    "vtt": vtt,
    "ctm": ctm_lines,
}
SUFFIXES = {"text": ".txt", "json": ".json", "srt": ".srt", "vtt": ".vtt", "ctm": ".ctm"}
# formats with confidences
CONFIDENT = ("json", "ctm")
# formats that hold one recording per file
SINGLE = ("srt", "vtt")


def line(transcript: Transcript, format: str) -> str:
    """A transcript for standard output, without the last line break: one line per file for text, one object per line for JSON; an
    empty string for an empty CTM."""
    if format == "text":
        return f"{transcript.name}\t{transcript.text}"
    if format == "json":
        return json.dumps(as_data(transcript), ensure_ascii=False)
    return FORMATS[format](transcript).rstrip("\n")
