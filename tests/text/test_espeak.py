"""eSpeak NG: always the same bytes, phonemes in ARPAbet with times, pronunciations of unknown words."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest

from asr.errors import UserError
from asr.text import espeak

pytest.importorskip("espeakng_loader", reason="eSpeak NG is an extra: pip install espeakng-loader")

TEXT = "The prime minister's idea, near the water, was a good one. Nobody knew it."


def test_the_same_arguments_give_the_same_bytes_whatever_was_spoken_before():
    # grandma draws random numbers, f2 leaves an echo: both would change later utterances.
    for voice in ("en-us+grandma", "en-us+f2", "en+m3"):
        first = espeak.synthesize(TEXT, voice, seed=7)
        espeak.synthesize("Something else was said.", "en-us+Alicia", rate=250, pitch=80)
        espeak.pronounce("something")
        again = espeak.synthesize(TEXT, voice, seed=7)
        assert first.samples.tobytes() == again.samples.tobytes()
        assert (first.phonemes, first.words) == (again.phonemes, again.words)


@pytest.mark.run
def test_another_process_gives_the_same_bytes():
    code = (
        "import hashlib; from asr.text import espeak; espeak.synthesize('Before.', 'en+f5');"
        f"print(hashlib.sha256(espeak.synthesize({TEXT!r}, 'en-us+grandma', 160, seed=3).samples.tobytes()).hexdigest())"
    )
    run = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(2)]
    here = hashlib.sha256(espeak.synthesize(TEXT, "en-us+grandma", 160, seed=3).samples.tobytes()).hexdigest()
    assert {process.stdout.strip() for process in run} == {here}


def test_the_seed_decides_the_random_numbers_of_voices_that_draw_them():
    # Breath noise is drawn at random.
    one, other = (espeak.synthesize(TEXT, "en-us+f2", seed=seed).samples for seed in (1, 2))
    assert len(one) == len(other) and not np.array_equal(one, other)


def test_rate_pitch_and_voice_change_what_is_heard():
    slow, quick = (len(espeak.synthesize(TEXT, rate=rate).samples) for rate in (120, 200))
    assert 1.4 < slow / quick < 1.9
    low, high = (espeak.synthesize("All of them are away.", "en-us+m3", pitch=pitch).samples for pitch in (20, 80))

    def fundamental(samples):  # Hz: the strongest repetition between 60 and 300 Hz
        samples = samples[4000:20000].astype(float)
        spectrum = np.abs(np.fft.rfft(samples, 2 * len(samples))) ** 2
        correlation = np.fft.irfft(spectrum)[: 22050 // 60]
        shortest = 22050 // 300
        return 22050 / (shortest + np.argmax(correlation[shortest:]))

    assert fundamental(high) > 1.2 * fundamental(low)


def test_phonemes_and_words_lie_in_order_within_the_sound_and_within_each_other():
    spoken = espeak.synthesize(TEXT)
    assert spoken.samples.dtype == np.int16 and spoken.sample_rate == 22050
    seconds = len(spoken.samples) / spoken.sample_rate
    for segments in (spoken.phonemes, spoken.words):
        assert all(duration > 0 for _, _, duration in segments)
        ends = [start + duration for _, start, duration in segments]
        assert all(end <= start + 1e-6 for end, (_, start, _) in zip(ends, segments[1:]))
        assert ends[-1] <= seconds + 1e-6
    assert {phone for phone, _, _ in spoken.phonemes} <= set(espeak.ARPABET)
    said = {}
    for word, start, duration in spoken.words:
        inside = [p for p, begin, _ in spoken.phonemes if start - 1e-6 <= begin < start + duration - 1e-6]
        said[word] = " ".join(inside)
    assert [word for word, _, _ in spoken.words] == (
        "The prime minister's idea near the water was a good one Nobody knew it".split()
    )
    assert said["prime"] == "P R AY M" and said["water"] == "W AO T ER" and said["good"] == "G UH D"


def test_a_fricative_is_bright_and_a_vowel_loud_where_the_times_say_they_are():
    spoken = espeak.synthesize("Six sisters saw a farmer's father at last.")
    bright, loud = {}, {}
    for phone, start, duration in spoken.phonemes:
        piece = spoken.samples[int(start * 22050) : int((start + duration) * 22050)].astype(float)
        power = np.abs(np.fft.rfft(piece * np.hanning(len(piece)))) ** 2
        above = np.fft.rfftfreq(len(piece), 1 / 22050) > 3500
        bright.setdefault(phone, []).append(power[above].sum() / power.sum())
        loud.setdefault(phone, []).append(np.sqrt(np.mean(piece**2)))
    assert min(bright["S"]) > 0.6 and max(bright["AA"]) < 0.2
    assert min(loud["AA"]) > 2 * max(loud["S"])


def test_pauses_are_not_phonemes():
    spoken = espeak.synthesize("He waited. She left.")
    gaps = [
        start - (before + duration)
        for (_, before, duration), (_, start, _) in zip(spoken.phonemes, spoken.phonemes[1:])
    ]
    assert sum(gap > 0.15 for gap in gaps) == 1


def test_every_word_of_the_sentences_is_pronounced_in_arpabet_in_every_accent():
    from asr.data.corpora.spoken.sentences import lexis

    vocabulary = sorted({word for words in vars(lexis()).values() if isinstance(words, list) for word in words})
    assert len(vocabulary) > 5000
    accents = [accent for accent in espeak.languages() if accent != "en-us"]
    # Every word in the main accent, and each in one of the others.
    for accent, words in [("en-us", vocabulary)] + [(a, vocabulary[i :: len(accents)]) for i, a in enumerate(accents)]:
        for i in range(0, len(words), 60):
            batch = words[i : i + 60]
            spoken = espeak.synthesize(" ".join(batch) + ".", accent, rate=450)
            assert {phone for phone, _, _ in spoken.phonemes} <= set(espeak.ARPABET)
            assert [word for word, _, _ in spoken.words] == batch


def test_accents_are_transcribed_as_they_are_heard():
    car = {accent: espeak.pronounce("car", accent) for accent in ("en-us", "en", "en-gb-scotland")}
    assert car == {"en-us": ["K", "AA", "R"], "en": ["K", "AA"], "en-gb-scotland": ["K", "AA", "R"]}
    assert espeak.pronounce("bath", "en-us") == ["B", "AE", "TH"]
    assert espeak.pronounce("bath", "en-gb-x-rp") == ["B", "AA", "TH"]


def test_unknown_words_get_a_pronunciation():
    assert espeak.pronounce("button") == ["B", "AH", "T", "AH", "N"]
    assert espeak.pronounce("bottle") == ["B", "AA", "T", "AH", "L"]
    assert espeak.pronounce("zorbifier") == ["Z", "AO", "R", "B", "IH", "F", "AY", "ER"]
    with pytest.raises(UserError, match="nothing to pronounce"):
        espeak.pronounce("...")


def test_a_symbol_without_a_phoneme_is_named():
    with pytest.raises(UserError, match="ʘ"):
        espeak.to_arpabet(["k", "ʘ"])


def test_unknown_voices_are_refused_with_the_nearest_names():
    with pytest.raises(UserError, match="grandmas.*did you mean grandma"):
        espeak.synthesize(TEXT, "en-us+grandmas")
    with pytest.raises(UserError, match="en-uss.*did you mean en-us"):
        espeak.synthesize(TEXT, "en-uss+m3")
    assert "en-us+m3" in espeak.voices() and "en" in espeak.voices()


@pytest.mark.run
def test_a_missing_wheel_is_answered_with_the_command_that_installs_it():
    code = (
        "import sys; sys.modules['espeakng_loader'] = None\n"
        "from asr.text import espeak\nfrom asr.errors import UserError\n"
        "try: espeak.pronounce('word')\nexcept UserError as error: print(error)"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert 'pip install "asr[spoken]"' in answer and "pip install espeakng-loader" in answer
