"""Phonemes, characters and byte-pair pieces: built from a training split, encoded, decoded, saved and loaded."""

import json
import logging
import subprocess
import sys

import pytest
from lhotse import SupervisionSegment
from lhotse.supervision import AlignmentItem

from asr.errors import UserError
from asr.text.lexicon.dictionary import ARPABET, Lexicon, cmudict_lexicon
from asr.text.units import BLANK, UnknownUnit, build_units, load_units, units

TEXTS = [
    "The quick brown fox jumps over the lazy dog.",
    "Interest rates, he said, won't rise this year!",
    "A well-known company bought another one on Friday.",
    "They sell sea shells by the sea shore.",
]


def supervision(text, id="utterance-1", language="en", phonemes=None):
    alignment = None
    if phonemes is not None:
        alignment = {"phoneme": [AlignmentItem(symbol, 0.1 * i, 0.1) for i, symbol in enumerate(phonemes)]}
    return SupervisionSegment(
        id=id, recording_id=id, start=0, duration=5, text=text, language=language, alignment=alignment
    )


TRAINING = [supervision(text, f"train-{number}") for number, text in enumerate(TEXTS)]


def built(name, **settings):
    return build_units({"name": name, **settings}, TRAINING)


@pytest.fixture(params=["phonemes", "characters", "bpe"])
def made(request):
    return built(request.param, **({"size": 60} if request.param == "bpe" else {}))


def test_the_registry_lists_every_kind():
    assert units.names() == ["bpe", "characters", "phonemes", "timit"]


@pytest.mark.run
def test_listing_units_imports_nothing_heavy():
    code = (
        "import sys; from asr.text.units import units; units.names(); "
        "print([m for m in ('torch', 'lhotse', 'sentencepiece', 'cmudict') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_the_blank_is_the_first_symbol_and_no_utterance_has_it(made):
    assert made.symbols[0] == BLANK and len(set(made.symbols)) == len(made.symbols)
    for utterance in TRAINING:
        ids = made.encode(utterance)
        assert ids and all(0 < index < len(made.symbols) for index in ids)


def test_decoding_what_was_encoded_gives_the_reference(made):
    for utterance in TRAINING:
        assert made.decode(made.encode(utterance)) == made.reference(utterance)


def test_words_are_scored_unless_the_units_are_phonemes(made):
    reference = made.reference(TRAINING[0])
    if made.name == "phonemes":
        assert made.metric == "per" and reference[:5] == ["DH", "AH", "K", "W", "IH"]
    else:
        assert made.metric == "wer" and made.text(reference) == "the quick brown fox jumps over the lazy dog"


def test_an_empty_text_has_no_labels(made):
    for text in ("", " ?! ", None):
        assert made.encode(supervision(text)) == made.reference(supervision(text)) == made.decode([]) == []


def test_saved_units_are_loaded_as_they_were(made, tmp_path):
    made.save(tmp_path / "model")
    loaded = load_units(tmp_path / "model")
    assert type(loaded) is type(made)
    assert loaded.symbols == made.symbols and loaded.settings() == made.settings()
    assert [loaded.encode(utterance) for utterance in TRAINING] == [made.encode(utterance) for utterance in TRAINING]
    assert not [path.name for path in (tmp_path / "model").iterdir() if path.name.startswith(".")]


def test_the_same_training_split_gives_the_same_files(made, tmp_path):
    settings = {"size": 60} if made.name == "bpe" else {}
    for folder in ("first", "second"):
        built(made.name, **settings).save(tmp_path / folder)
    for path in (tmp_path / "first").iterdir():
        assert path.read_bytes() == (tmp_path / "second" / path.name).read_bytes()


@pytest.mark.parametrize(
    "damage, words",
    [
        (lambda fields: fields.update(name="phonem"), "did you mean phonemes"),
        (lambda fields: fields.update(name="__init__"), "no units called"),
        (lambda fields: fields.update(extra="os.system"), "'extra'"),
        (lambda fields: fields.pop("normalizer"), "lacks the field 'normalizer'"),
        (lambda fields: fields.update(normalizer=3), "normalizer must be of type str"),
        (lambda fields: fields.update(normalizer="lower"), "no text normalizer called 'lower'"),
        (lambda fields: fields.pop("symbols"), "symbols must be a list"),
        (lambda fields: fields["symbols"].reverse(), "symbols must be a list"),
        (lambda fields: fields["symbols"].append(fields["symbols"][1]), "symbols must be a list"),
    ],
)
def test_a_damaged_description_gets_a_sentence(made, tmp_path, damage, words):
    made.save(tmp_path)
    fields = json.loads((tmp_path / "units.json").read_text(encoding="utf8"))
    damage(fields)
    (tmp_path / "units.json").write_text(json.dumps(fields), encoding="utf8")
    with pytest.raises(UserError, match=words):
        load_units(tmp_path)


def test_files_that_are_missing_or_cut_short_get_a_sentence(made, tmp_path):
    with pytest.raises(UserError, match="units.json cannot be read"):
        load_units(tmp_path)
    made.save(tmp_path)
    for path in list(tmp_path.iterdir()):
        whole = path.read_bytes()
        for size in (len(whole) // 2 - 1, len(whole) - 2):
            path.write_bytes(whole[:size])
            with pytest.raises(UserError, match=path.name):
                load_units(tmp_path)
        path.unlink()
        with pytest.raises(UserError, match=path.name):
            load_units(tmp_path)
        path.write_bytes(whole)
    load_units(tmp_path)


def test_a_setting_that_units_do_not_have_gets_the_nearest_name():
    with pytest.raises(UserError, match="did you mean normalizer"):
        built("characters", normaliser="words")


# Phonemes


def test_gold_phonemes_count_before_the_lexicon_and_silences_are_left_out():
    utterance = supervision("cat", phonemes=["SIL", "K", "AA1", "T", "sil"])
    assert built("phonemes").reference(utterance) == ["K", "AA", "T"]
    assert built("phonemes", alignments=False).reference(utterance) == ["K", "AE", "T"]


def test_a_gold_phoneme_outside_the_inventory_is_named():
    with pytest.raises(UnknownUnit, match="'Q'") as caught:
        built("phonemes").encode(supervision("cat", phonemes=["Q", "AE", "T"]))
    assert caught.value.unit == "Q"


def test_cmudict_gives_39_phonemes_without_stress():
    assert built("phonemes").symbols[1:] == ARPABET and len(ARPABET) == 39
    assert set(cmudict_lexicon().phonemes) == set(ARPABET)
    assert cmudict_lexicon()["read"] == ("R", "EH", "D")
    assert "bout" in cmudict_lexicon() and "'bout" in cmudict_lexicon()


def test_unknown_words_are_pronounced_by_espeak_and_saved_with_the_model(tmp_path):
    pytest.importorskip("espeakng_loader")
    made = build_units({"name": "phonemes"}, [supervision("the zorblax sings")])
    assert made.added == ["zorblax"]
    assert made.decode(made.encode(supervision("zorblax")))[0] == "Z"
    made.reference(supervision("a wugling"))
    made.save(tmp_path)
    loaded = load_units(tmp_path)
    assert loaded.added == ["wugling", "zorblax"]
    assert loaded.reference(supervision("wugling")) == made.reference(supervision("wugling"))
    assert Lexicon.read(tmp_path / "lexicon.txt")["sings"] == ("S", "IH", "NG", "Z")


def test_unknown_words_are_refused_by_name_if_so_configured():
    with pytest.raises(UserError, match="2 words .* cmudict: zorblax, wugling"):
        build_units({"name": "phonemes", "out_of_vocabulary": "refuse"}, [supervision("the zorblax, the wugling")])
    made = built("phonemes", out_of_vocabulary="refuse")
    with pytest.raises(UnknownUnit, match="utterance-1: the word 'zorblax'") as caught:
        made.encode(supervision("the zorblax"))
    assert caught.value.unit == "zorblax"


def test_digits_must_be_spelled_out():
    made = build_units({"name": "phonemes"}, [supervision("room 12")])
    with pytest.raises(UnknownUnit, match="'12' .* spell numbers out"):
        made.encode(supervision("room 12"))


def test_cmudict_is_refused_for_other_languages():
    with pytest.raises(UserError, match="is in fr, but cmudict is English"):
        build_units({"name": "phonemes"}, [supervision("bonjour", language="fr")])


def test_a_lexicon_of_ones_own_brings_its_phonemes(tmp_path, caplog):
    path = tmp_path / "lexicon.txt"
    path.write_text("BON b ɔ̃\nJOUR ʒ u ʁ\njour x\n<UNK> spn\nwell-known w n\n", encoding="utf8")
    utterance = supervision("Bon jour!", language="fr")
    with caplog.at_level(logging.WARNING):
        made = build_units({"name": "phonemes", "lexicon": str(path), "out_of_vocabulary": "refuse"}, [utterance])
    assert "2 entries" in caplog.text and "<UNK>, well-known" in caplog.text
    assert made.symbols == [BLANK, "b", "u", "ɔ̃", "ʁ", "ʒ"]
    assert made.reference(utterance) == ["b", "ɔ̃", "ʒ", "u", "ʁ"]
    made.save(tmp_path / "model")
    path.unlink()
    assert load_units(tmp_path / "model").reference(utterance) == made.reference(utterance)
    with pytest.raises(UnknownUnit, match="soir"):
        made.encode(supervision("bon soir", language="fr"))


@pytest.mark.parametrize(
    "content, words",
    [
        (b"cat K AE T\ndog\n", "line 2: 'dog' has no phonemes"),
        (b"cat K AE T\n\ndog 0.5 D AO G\n", "line 3: '0.5' is a number"),
        (b"cat K AE T\n\xff\xfe D\n", "line 2: 0xff is not UTF-8"),
        (b"\n", "holds no word"),
    ],
)
def test_a_mistake_in_a_lexicon_is_told_by_line(tmp_path, content, words):
    path = tmp_path / "lexicon.txt"
    path.write_bytes(content)
    with pytest.raises(UserError, match=words):
        built("phonemes", lexicon=str(path))


def test_a_lexicon_that_is_not_there_and_a_policy_that_is_not_known_get_a_sentence(tmp_path):
    with pytest.raises(UserError, match="units.lexicon=.*nowhere.txt"):
        built("phonemes", lexicon=str(tmp_path / "nowhere.txt"))
    with pytest.raises(UserError, match="did you mean espeak"):
        built("phonemes", out_of_vocabulary="speak")


def test_a_lexicon_saved_with_phonemes_of_another_model_is_refused(tmp_path):
    built("phonemes").save(tmp_path)
    lexicon = (tmp_path / "lexicon.txt").read_text(encoding="utf8")
    (tmp_path / "lexicon.txt").write_text(lexicon.replace("dog D AO G", "dog q AO G"), encoding="utf8")
    with pytest.raises(UserError, match="lexicon.txt uses phonemes .*: q"):
        load_units(tmp_path)


# Characters


def test_characters_are_those_of_the_normalized_training_text():
    made = build_units({"name": "characters"}, [supervision("Don’t — do that, NOW!")])
    assert made.symbols == [BLANK, "▁", "'", *sorted(set("dontdothatnow"))]
    as_it_is = build_units({"name": "characters", "normalizer": "none"}, [supervision("Do it.")])
    assert as_it_is.symbols == [BLANK, "▁", ".", "D", "i", "o", "t"]


@pytest.mark.parametrize("name, more", [("characters", {}), ("bpe", {"size": 30})])
def test_units_keep_the_language_that_their_texts_are_normalized_by(name, more, tmp_path):
    turkish = [supervision("IĞDIR, İstanbul, DIŞ", language="tr")]
    build_units({"name": name, "normalizer": "auto", **more}, turkish, language="tr-TR").save(tmp_path)
    loaded = load_units(tmp_path)
    assert loaded.normalizer == "words-tr" and loaded.reference(turkish[0]) == ["ığdır", "istanbul", "dış"]
    # whatever the language of another corpus
    assert loaded.reference(supervision("DIŞ", language=None)) == ["dış"]
    assert loaded.decode(loaded.encode(turkish[0])) == loaded.reference(turkish[0])
    # a model from before languages were known
    fields = json.loads((tmp_path / "units.json").read_text(encoding="utf8"))
    (tmp_path / "units.json").write_text(json.dumps({**fields, "normalizer": "words"}), encoding="utf8")
    assert load_units(tmp_path).reference(turkish[0])[2] == "diş"
    assert build_units({"name": name, **more}, turkish).normalizer == "words"


def test_an_unseen_character_is_named():
    with pytest.raises(UnknownUnit, match="utterance-1: the character 'é'") as caught:
        built("characters").encode(supervision("the café"))
    assert caught.value.unit == "é"


def test_a_training_split_without_text_has_no_characters_and_no_pieces():
    for name in ("characters", "bpe"):
        with pytest.raises(UserError, match="has no text"):
            build_units({"name": name}, [supervision(" ...")])


# Byte-pair pieces


def test_size_counts_all_symbols():
    assert len(built("bpe", size=60).symbols) == 60


def test_a_size_that_the_text_cannot_fill_is_lowered_and_said(caplog):
    with caplog.at_level(logging.WARNING):
        made = built("bpe", size=5000)
    assert 60 < len(made.symbols) < 5000
    assert f"units.size=5000 is more than this text can fill: {len(made.symbols)} pieces" in caplog.text


@pytest.mark.parametrize("size", [10, 2, "many"])
def test_a_size_that_is_too_small_or_no_number_gets_a_sentence(size):
    with pytest.raises(UserError, match=f"units.size='?{size}"):
        built("bpe", size=size)


def test_the_size_that_the_sentence_advises_works():
    with pytest.raises(UserError) as caught:
        built("bpe", size=10)
    least = int(str(caught.value).split("set units.size to ")[1].split()[0])
    assert len(built("bpe", size=least).symbols) == least


def test_text_outside_the_training_text_is_named():
    with pytest.raises(UnknownUnit, match="'é") as caught:
        built("bpe", size=60).encode(supervision("the café"))
    assert caught.value.unit == "é"


def test_pieces_of_another_model_are_refused(tmp_path):
    built("bpe", size=60).save(tmp_path / "one")
    built("bpe", size=70).save(tmp_path / "two")
    (tmp_path / "two" / "bpe.model").replace(tmp_path / "one" / "bpe.model")
    with pytest.raises(UserError, match="take both from the same model"):
        load_units(tmp_path / "one")
