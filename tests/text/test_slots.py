"""What may have been said: pronunciations of words, gold phonemes, silences."""

import pytest
from lhotse import SupervisionSegment
from lhotse.supervision import AlignmentItem

from asr.errors import UserError
from asr.text.lexicon.dictionary import Lexicon, cmudict_lexicon
from asr.text.units import Saying, UnknownUnit, load_units
from asr.text.units.characters import Characters
from asr.text.units.phonemes import Phonemes


def said(text, **tiers):
    alignment = {name: [AlignmentItem(symbol, start, 0.1) for symbol, start in items] for name, items in tiers.items()}
    return SupervisionSegment("u1", "u1", 0.0, 9.0, text=text, alignment=alignment or None)


def spelled(units, slots):
    return [{" ".join(units.symbols[unit] for unit in phones) for _, phones in slot} for slot in slots]


def test_each_word_may_be_said_in_all_of_its_pronunciations_with_silences_around():
    units = Phonemes.build([], silence=True)
    assert units.symbols[-1] == "SIL" and "SIL" not in Phonemes.build([]).symbols
    slots = spelled(units, units.slots(said("the cat"), Saying()))
    assert slots == [{"", "SIL"}, {"DH AH", "DH IY"}, {"", "SIL"}, {"K AE T"}, {"", "SIL"}]
    first = units.slots(said("the cat"), Saying(edge=0.5, between=0.0, pronunciations="first"))
    assert spelled(units, first) == [{"", "SIL"}, {"DH AH"}, {""}, {"K AE T"}, {"", "SIL"}]
    assert first[0] == ((0.5, ()), (0.5, (40,)))


def test_gold_phonemes_are_said_as_they_are_and_silences_only_stand_between_words():
    units = Phonemes.build([], silence=True)
    phonemes = [("DH", 0.1), ("AH0", 0.2), ("sil", 0.3), ("K", 0.4), ("AE1", 0.5), ("T", 0.6)]
    slots = units.slots(said("the cat", phoneme=phonemes, word=[("the", 0.1), ("cat", 0.4004)]), Saying())
    assert spelled(units, slots) == [{"", "SIL"}, {"DH AH"}, {"", "SIL"}, {"K AE T"}, {"", "SIL"}]
    slots = units.slots(said("the cat", phoneme=phonemes), Saying())
    assert spelled(units, slots) == [{"", "SIL"}, {"DH AH K AE T"}, {"", "SIL"}]


def test_silence_is_not_scored_where_it_was_added():
    units = Phonemes.build([], silence=True)
    assert units.decode([40, 1, 40, 2, 40]) == ["AA", "AE"] and units.reference(said("cat")) == ["K", "AE", "T"]
    own = Phonemes(["<blank>", "A", "SIL"], "own.txt", pronunciations=Lexicon({"pause": ("SIL",)}))
    assert own.decode([1, 2]) == ["A", "SIL"]


def test_all_pronunciations_of_a_lexicon_are_kept_with_the_units(tmp_path):
    file = tmp_path / "own.txt"
    file.write_text("ab A B\nab A\nab A B\nc B\n")
    units = Phonemes.build([], lexicon=str(file), normalizer="none", silence=True)
    units.save(tmp_path / "units")
    for each in (units, load_units(tmp_path / "units")):
        assert spelled(each, each.slots(said("ab c"), Saying(between=0)))[1::2] == [{"A B", "A"}, {"B"}]
        assert each.encode(said("ab c")) == [1, 2, 2] and each.symbols == ["<blank>", "A", "B", "SIL"]


def test_cmudict_has_every_pronunciation_once():
    for word in ("the", "read", "cat"):
        known = cmudict_lexicon().all_of(word)
        assert known[0] == cmudict_lexicon()[word] and len(set(known)) == len(known)
    assert len(cmudict_lexicon().all_of("read")) == 2


def test_units_that_cannot_say_and_words_without_pronunciation_are_answered_by_a_sentence():
    with pytest.raises(UserError, match="needs a unit SIL for pauses"):
        Phonemes.build([]).slots(said("cat"), Saying())
    with pytest.raises(UserError, match="units=characters does not say how words.*Use units=phonemes"):
        Characters(["<blank>", "▁", "a"]).slots(said("a"), Saying())
    with pytest.raises(UnknownUnit, match="'zzxq' is not in the lexicon"):
        Phonemes.build([], out_of_vocabulary="refuse", silence=True).slots(said("zzxq"), Saying())
    with pytest.raises(UserError, match="units.silence='yes'"):
        Phonemes.build([], silence="yes")
