"""The splits of Switchboard, tested with manifests alone: by conversations, and as in Kaldi's recipe."""

from asr.data.corpora.preparing.folders import segment_cut
from asr.data.corpora.switchboard.segments import Segment, overlapping
from asr.data.corpora.switchboard.splits import as_kaldi, by_conversations, conversation_of, without_copies

RATE = 8000


def synthetic(conversations=100, utterances=30):
    """Cuts of both sides of many conversations, in no order, every third of which is "uh-huh"."""
    cuts = []
    for number in range(conversations):
        for side in "BA":
            name = f"sw0{2001 + number}-{side}"
            for start in range(utterances):
                text = "uh-huh" if start % 3 == 0 else f"words {number} {side} {start}"
                utterance = f"{name}_{start * 300:06d}-{start * 300 + 200:06d}"
                cuts.append(segment_cut(utterance, f"{name}.flac", 900000, RATE, start * 3, 2.0, text, name, None))
    return cuts


def texts(cuts):
    return [cut.supervisions[0].text for cut in cuts]


def test_kaldis_split_takes_the_first_4000_for_dev_and_keeps_at_most_300_copies_of_a_text():
    cuts = synthetic()
    splits = as_kaldi(cuts, texts(cuts), 4000, 300, test=False)
    order = sorted(cut.id for cut in cuts)
    # the first of all in dev are side A of the first conversation, as C's order of letters has it
    assert [cut.id for cut in splits["dev"]] == order[:4000] and order[30].startswith("sw02001-B_000000")
    train = {cut.id for cut in splits["train"]}
    assert train < set(order[4000:]) and list(splits) == ["train", "dev"]
    rare = [cut.id for cut in cuts if cut.id in set(order[4000:]) and cut.supervisions[0].text != "uh-huh"]
    assert train.issuperset(rare)
    frequent = [cut for cut in splits["train"] if cut.supervisions[0].text == "uh-huh"]
    assert 290 <= len(frequent) <= 300
    # they come from all over train, not from its beginning
    half = order[5000]
    assert 100 < sum(cut.id > half for cut in frequent) < 200


def test_kaldis_draw_is_repeated_number_by_number():
    # four copies, two of which may stay: the draws are 103349·n mod 71147 / 71147 = 0.45, 0.91, 0.36, 0.81; below 0.5 stays
    assert without_copies("abcd", ["same"] * 4, 2) == ["a", "c"]
    # a text with fewer copies than the bound draws no number; one with as many draws them, and all stay
    assert without_copies("axbycd", ["same", "x", "same", "y", "same", "same"], 2) == ["a", "x", "y", "c"]
    assert without_copies("aabb", ["one", "one", "two", "two"], 2) == ["a", "a", "b", "b"]


def test_the_bound_holds_where_the_draw_would_let_more_through():
    # of 370 copies Kaldi's draw keeps 301
    assert len(without_copies(range(370), ["uh-huh"] * 370, 300)) == 300


def test_without_eval2000_kaldis_split_has_a_test_split_after_dev():
    cuts = synthetic(10)
    splits = as_kaldi(cuts, texts(cuts), 100, 300, test=True)
    order = sorted(cut.id for cut in cuts)
    assert [cut.id for cut in splits["test"]] == order[100:200]
    assert not {cut.id for cut in splits["train"]} & set(order[:200])


def test_conversations_keep_their_split_when_others_come():
    few, many = (by_conversations(synthetic(count, 2), 0.1, 0.1, 1) for count in (60, 100))
    assert all({cut.id for cut in few[split]} <= {cut.id for cut in many[split]} for split in few)
    assert 5 <= len({conversation_of(cut) for cut in many["test"]}) <= 20


def test_overlapping_segments_are_named_with_their_places_and_touching_ones_are_not():
    times = ((0.0, 1.0), (1.0, 2.0), (1.5, 3.0))
    segments = [Segment("sw02001-A", *time, "yes", f"file:{line}") for line, time in enumerate(times, 1)]
    assert overlapping(segments) == ["file:3 begins at 1.5 s, the line before it ends at 2 s"]
