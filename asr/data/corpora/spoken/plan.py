"""The plan of the built-in corpus: what each utterance says, who speaks it and how fast, before any sound is made.

The plan is a pure function of the settings, so any number of processes can carry it out and produce the same bytes.
"""

from __future__ import annotations

import dataclasses
import math
import random
from statistics import NormalDist

from asr.data.corpora.spoken.sentences import Grammar, lexis, words
from asr.data.corpora.spoken.voices import draw_voice


@dataclasses.dataclass(frozen=True)
class Shape:
    """Durations of utterances (seconds), and the channel. Durations are log-normal, cut off at both ends."""

    average: float
    longest: float
    spread: float  # standard deviation of the logarithm of the duration
    sample_rate: int  # Hz
    telephone: bool = False  # 300-3400 Hz and 8-bit mu-law
    shortest: float = 1.3


SHAPES = {
    "short": Shape(average=3.0, longest=10.0, spread=0.35, sample_rate=16000),
    "wsj": Shape(average=7.8, longest=25.0, spread=0.45, sample_rate=16000),
    "switchboard": Shape(average=5.3, longest=38.0, spread=0.8, sample_rate=8000, telephone=True),
}

# Seconds that eSpeak takes for a phoneme and for a word at 175 words per minute, and, at any rate, for a comma, between two
# sentences, and at the end: fitted to all voices, 4 % off on average.
_PHONEME_SECONDS, _WORD_SECONDS = 0.0574, 0.0653
_COMMA_SECONDS, _SENTENCE_SECONDS, _END_SECONDS = 0.24, 0.37, 0.065


@dataclasses.dataclass(frozen=True)
class Utterance:
    """An utterance to synthesize. text: with punctuation, as eSpeak reads it. rate: words per minute. before, after: silence
    in seconds."""

    id: str
    split: str
    text: str
    voice: str
    rate: int
    pitch: int
    pitch_range: int
    seed: int
    gain: float  # dB
    before: float
    after: float


def durations(count: int, shape: Shape, generator: random.Random) -> list[float]:
    """`count` durations in seconds, in random order: evenly spaced quantiles, so any count has the shape's average."""
    normal = NormalDist()

    def quantiles(median: float) -> list[float]:
        low = normal.cdf(math.log(shape.shortest / median) / shape.spread)
        high = normal.cdf(math.log(0.95 * shape.longest / median) / shape.spread)
        levels = [low + (high - low) * (i + 0.5) / count for i in range(count)]
        return [median * math.exp(shape.spread * normal.inv_cdf(level)) for level in levels]

    low, high = shape.average / 4, shape.average * 2
    for _ in range(40):
        median = (low + high) / 2
        low, high = (median, high) if sum(quantiles(median)) < count * shape.average else (low, median)
    result = quantiles(median)
    generator.shuffle(result)
    return result


def expected_seconds(phrase: str, rate: int) -> float:
    """The expected seconds of `phrase` at `rate` words per minute, including the pauses at its commas."""
    spoken = words(phrase).split()
    phonemes = sum(lexis().phonemes[word] for word in spoken)
    slowness = 175 / rate
    return slowness * (_PHONEME_SECONDS * phonemes + _WORD_SECONDS * len(spoken)) + _COMMA_SECONDS * phrase.count(",")


def _compose(grammar: Grammar, seconds: float, rate: int) -> tuple[list[str], float]:
    """Sentences that take about `seconds`, the last one cut after a phrase; and the seconds they should take."""
    best: tuple[list[str], float] = ([], 0.0)
    finished: list[str] = []
    total = _END_SECONDS
    while total < seconds:
        phrases: list[str] = []
        for phrase in grammar.sentence():
            phrases.append(phrase)
            total += expected_seconds(phrase, rate)
            if abs(total - seconds) < abs(best[1] - seconds):
                best = ([*finished, " ".join(phrases).rstrip(",")], total)
        finished.append(" ".join(phrases))
        total += _SENTENCE_SECONDS
    return best


def _punctuated(sentences: list[str]) -> str:
    # eSpeak pauses at a full stop only if a capital letter follows.
    marks = ("?" if sentence.startswith(("why ", "will ")) else "." for sentence in sentences)
    return " ".join(sentence[0].upper() + sentence[1:] + mark for sentence, mark in zip(sentences, marks))


def plan_utterances(shape: Shape, counts: dict[str, int], seed: int) -> list[Utterance]:
    """All utterances of all splits (`counts`: utterances by split). No two splits share a sentence; no utterance repeats."""
    owner: dict[str, str] = {}  # sentence → the split that has it
    utterances = []
    for split, count in counts.items():
        targets = durations(count, shape, random.Random(f"{seed} {split} durations"))
        seen: set[str] = set()
        for index, target in enumerate(targets):
            generator = random.Random(f"{seed} {split} {index}")
            grammar = Grammar(generator)
            rate = generator.randint(130, 190)
            before, after = (round(generator.uniform(0.08, 0.3), 3) for _ in range(2))
            wanted = target - before - after
            candidates: list[tuple[float, list[str]]] = []
            while len(candidates) < 4:
                sentences, expected = _compose(grammar, wanted, rate)
                spoken = [words(sentence) for sentence in sentences]
                if any(owner.get(sentence, split) != split for sentence in spoken) or " ".join(spoken) in seen:
                    continue
                candidates.append((abs(expected - wanted), sentences))
                if candidates[-1][0] < 0.05 * wanted:
                    break
            _, sentences = min(candidates)
            owner.update((words(sentence), split) for sentence in sentences)
            seen.add(" ".join(words(sentence) for sentence in sentences))
            utterances.append(
                Utterance(
                    id=f"{split}-{index:05d}",
                    split=split,
                    text=_punctuated(sentences),
                    voice=draw_voice(split, index, generator),
                    rate=rate,
                    pitch=generator.randint(35, 65),
                    pitch_range=generator.randint(30, 70),
                    seed=generator.randint(1, 2**31 - 1),
                    gain=round(generator.uniform(-12, 0), 2),
                    before=before,
                    after=after,
                )
            )
    return utterances
