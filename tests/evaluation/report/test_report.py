"""The page of an evaluation: what stands in it, what it may not do, and that it never costs the scores."""

import base64
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import soundfile
import torch

from asr.audio.writing import flac
from asr.config.settings import compose
from asr.errors import UserError
from asr.evaluation.evaluate import Request, evaluate
from asr.evaluation.report.alignment import alignment_block
from asr.evaluation.report.evaluation import NAME, duration_bins, guarded, report_page, worst_utterances
from asr.evaluation.report.figures import draw_features, frequency_ticks
from asr.evaluation.report.page import page, svg_of
from asr.evaluation.report.players import AudioBudget
from asr.model.folder import save_model
from asr.model.network import Model
from asr.scoring import align, score_utterance, summarize
from asr.scoring.metric import Metric, summarize_in
from asr.text.units import units
from asr.training.setup import describe

RATE = 16000
WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "house", "river"]


def sound(seconds: float, seed: int):
    generator = np.random.default_rng(seed)
    samples = int(seconds * RATE)
    return (0.2 * generator.standard_normal(samples) * np.sin(np.arange(samples) / RATE * 9) ** 2).astype("float32")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A run's folder with an untrained model, and the corpus of real audio files that it names."""
    place = tmp_path_factory.mktemp("place")
    (place / "audio").mkdir()
    lines = ["file\ttext\tspeaker\tsplit"]
    for number in range(14):
        soundfile.write(place / "audio" / f"{number:02}.wav", sound(1 + number / 5, number), RATE, subtype="PCM_16")
        text = " ".join(WORDS[(number + step) % len(WORDS)] for step in range(1 + number // 3))
        split = ("train", "dev", "test")[min(number, 2)]
        lines.append(f"{number:02}.wav\t{text}\t<i>speaker {number % 2}</i>\t{split}")
    (place / "audio" / "transcripts.tsv").write_text("\n".join(lines) + "\n")
    config = compose("train", ["encoder.layers=2", "encoder.heads=2", "encoder.head_dim=8", "encoder.feed_forward=16"])
    description, built = describe(config), units.get("phonemes").build([])
    description["features"]["sample_rate"], description["units"] = RATE, len(built.symbols)
    torch.manual_seed(0)
    run = place / "run"
    save_model(run / "model", Model(description), built, {"corpus": {"name": "folder", "path": str(place / "audio")}})
    (run / "config.yaml").write_text("seed: 1\n")
    lines = ["step,train/loss,dev/loss,dev/error_rate,train/learning_rate", "1,3.0,,,0.1", "2,2.0,2.5,0.9,0.05"]
    (run / "metrics.csv").write_text("\n".join(lines) + "\n")
    return place


def ask(place, **more) -> Request:
    return Request(checkpoint=str(place / "run"), cache=str(place / "cache"), bootstrap=50, device="cpu", **more)


@pytest.fixture(scope="module")
def html(place):
    scores = evaluate(ask(place))
    assert scores["report"] == place / "run/evaluation/test/full" / NAME
    return scores["report"].read_text(encoding="utf8")


class Tags(HTMLParser):
    """Collects (tag, attributes) of everything in a page, and its text outside the style sheet."""

    def __init__(self, html: str):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        if self.tags and self.tags[-1][0] != "style":
            self.text += data


def test_an_evaluation_leaves_a_page_with_all_its_parts_beside_the_scores(place, html):
    assert (place / "run/evaluation/test/full/scores.json").is_file()
    text = Tags(html).text
    for heading in ("What was scored", "Learning curves", "Error rate by duration", "Error rate by speaker",
                    "Most confused phonemes", "Worst utterances"):  # fmt: skip
        assert heading in text
    assert "could not be shown" not in text.lower()
    scores = json.loads((place / "run/evaluation/test/full/scores.json").read_text())
    assert f"{100 * scores['error_rate']:.1f} %" in text and scores["command"] in text
    assert "Learning rate" in text and "Error rate on dev" in text, "the panels of the learning curves"


def test_nothing_in_the_page_leads_outside_it(html):
    fetching = ("src", "href", "xlink:href", "srcset", "poster", "data", "action")
    for tag, attributes in Tags(html).tags:
        assert tag not in ("script", "link", "iframe", "object", "embed", "base")
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in fetching:
                assert value.startswith(("data:", "#")), (tag, name, value[:60])
    assert not re.search(r"url\((?!#|data:)|@import|https?://", html)


def test_what_users_wrote_is_escaped_wherever_it_stands(html):
    tags = Tags(html)
    assert "<i>speaker 0</i>" in tags.text and "&lt;i&gt;speaker 0" in html
    hostile = "<script>alert(1)</script>"
    score = summarize([score_utterance(f"id {hostile}", [hostile, "b"], [hostile + "x"], hostile, 1.0)], 10)
    data = {
        "metric": "wer", "corpus": hostile, "split": hostile, "attention": hostile, "command": hostile, "units": hostile,
        "checkpoint": hostile, "normalizer": hostile, "audio_seconds": 1.0, "forward_seconds": None,
        "peak_memory_bytes": None, "dropped": [[hostile, hostile]], "normalizer_removed": {"<": 3},
    }  # fmt: skip
    written = report_page(score, data, [], None, None)
    assert "script" not in {tag for tag, _ in Tags(written).tags}
    assert hostile in Tags(written).text


def test_a_page_of_characters_shows_words_beside_them_and_spaces_as_signs():
    utterances = [
        score_utterance("one", ["de", "kat"], ["dekat"], "s", 1.0),
        score_utterance("two", ["hier"], ["hie r"]),
    ]
    score, beside = summarize_in(Metric("cer"), utterances, 20)
    data = {
        "metric": "cer", "corpus": "c", "split": "test", "attention": "full", "command": "x", "units": "characters",
        "checkpoint": "x", "normalizer": "words", "audio_seconds": 1.0, "forward_seconds": None, "peak_memory_bytes": None,
        **beside,
    }  # fmt: skip
    text = Tags(report_page(score, data, [], None, None)).text
    assert "Character error rate: c, test, full" in text and "CER 20.0 %" in text
    assert (
        "in 10 characters, spaces counted, of 2 utterances" in text and "WER 100.0 % (" in text and "3 words)." in text
    )
    assert "Most confused characters" in text and "␣" in text
    del data["word_error_rate"], data["character_error_rate"]
    assert "in 10 characters, of 2 utterances" in Tags(report_page(score, data, [], None, None)).text


def test_the_worst_utterances_can_be_heard_as_the_model_heard_them(place, html):
    players = [attributes for tag, attributes in Tags(html).tags if tag == "audio"]
    assert 1 <= len(players) <= 10
    headings = re.findall(r"<h3>(\S+): \d+ errors? in", html)
    assert len(headings) == len(players)
    for heading, player in zip(headings, players):
        assert "controls" in player
        kind, encoded = player["src"].split(",")
        assert kind == "data:audio/flac;base64"
        heard, rate = soundfile.read(io.BytesIO(base64.b64decode(encoded)), dtype="int16")
        spoken, _ = soundfile.read(place / "audio" / f"{heading}.wav", dtype="int16")
        assert rate == RATE and np.array_equal(heard, spoken)


def test_audio_that_vanished_is_named_in_the_page_and_the_scores_stand(place, monkeypatch, tmp_path):
    import asr.audio.cuts

    whole = asr.audio.cuts.load_waveform
    asked = []

    def vanishing(cut):
        asked.append(cut.id)
        if len(asked) > 12:
            raise UserError(f"The audio of utterance {cut.id} cannot be read from gone.wav: it vanished")
        return whole(cut)

    monkeypatch.setattr(asr.audio.cuts, "load_waveform", vanishing)
    scores = evaluate(ask(place, output=str(tmp_path / "scores")))
    assert (tmp_path / "scores" / "scores.json").is_file()
    text = Tags(scores["report"].read_text()).text
    assert "cannot be read from gone.wav" in text and "Error rate by speaker" in text


def test_a_page_that_cannot_be_written_does_not_cost_the_scores(place, tmp_path, caplog):
    folder = tmp_path / "scores"
    folder.mkdir()
    (folder / NAME).mkdir()
    (folder / NAME / "in the way").write_text("")
    scores = evaluate(ask(place, output=str(folder)))
    assert scores["report"] is None and (folder / "scores.json").is_file()
    assert "cannot be written" in caplog.text
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


def test_without_a_report_none_is_left_from_before(place, tmp_path):
    folder = tmp_path / "scores"
    evaluate(ask(place, output=str(folder)))
    assert (folder / NAME).is_file()
    assert evaluate(ask(place, output=str(folder), report=False))["report"] is None
    assert not (folder / NAME).exists() and (folder / "scores.json").is_file()


def test_a_part_that_fails_says_why_in_its_place():
    def fail():
        raise RuntimeError("no <b>ink</b> left")

    written = page("Title", [("Curves", guarded("Curves", fail))])
    assert "no &lt;b&gt;ink&lt;/b&gt; left" in written


def test_the_page_stays_within_its_bounds_and_says_what_it_left_out():
    budget = AudioBudget(bytes=200_000, seconds=5.0)
    players = [budget.player(f"utterance {n}", sound(8.0 if n == 0 else 2.0, n), RATE) for n in range(10)]
    assert sum(len(player) for player in players) < 200_000 * 4 / 3 + 10 * 500
    assert "the first 5 s of 8.0 s can be played" in budget.left_out[0]
    assert any("left out" in sentence for sentence in budget.left_out[1:])
    assert sum("<audio" in player for player in players) + len(budget.left_out) - 1 == 10
    tokens = [f"{n:0100}" for n in range(10_000)]
    block = alignment_block(align(tokens, []))
    assert len(block) < 300_000 and "9000 more tokens are left out here" in block
    assert len(svg_of(draw_features(np.random.default_rng(0).normal(size=(50_000, 80)), 0.01, RATE))) < 700_000


def test_an_alignment_is_read_without_colour_too():
    block = alignment_block(align(["a", "b", "c"], ["a", "x", "c", "d"]))
    columns = re.findall(r'<span(?: class="(\w)")?><\w+>(.*?)</\w+><\w+>(.*?)</\w+>(?:<i>(\w)</i>)?</span>', block)
    assert columns == [("", "a", "a", ""), ("S", "b", "x", "S"), ("", "c", "c", ""), ("I", "·", "d", "I")]
    assert "<s>b</s>" in alignment_block(align(["b"], []))


def test_one_word_utterances_do_not_crowd_out_those_with_many_errors():
    words = [score_utterance(f"word {n}", ["yes"], ["no"], "", 0.5) for n in range(20)]
    long = score_utterance("long", [str(n) for n in range(40)], [str(n) for n in range(30)], "", 10.0)
    easy = score_utterance("easy", [str(n) for n in range(500)], [str(n) for n in range(495)], "", 90.0)
    right = score_utterance("right", ["a"], ["a"], "", 1.0)
    chosen = [utterance.utterance for utterance in worst_utterances(summarize([*words, long, easy, right], 10), 30)]
    assert chosen[0] == "long" and chosen[-1] == "easy" and "right" not in chosen


def test_durations_are_binned_once_each_and_each_interval_holds_its_rate():
    generator = np.random.default_rng(0)
    scored = [
        score_utterance(
            f"u{n:03}", ["a"] * 10, ["a"] * int(generator.integers(5, 11)), "", round(generator.uniform(1, 9), 2)
        )
        for n in range(100)
    ]
    bins = duration_bins(scored)
    assert len(bins) == 6 and sum(bin.utterances for bin in bins) == 100
    assert all(a.high == b.low for a, b in zip(bins, bins[1:]))
    assert all(bin.interval[0] <= bin.error_rate <= bin.interval[1] for bin in bins)
    (alone,) = duration_bins(scored[:1])
    assert alone.utterances == 1 and alone.low <= scored[0].duration < alone.high


def test_frequencies_stand_where_the_filter_bank_has_them():
    from asr.model.features.filter_bank import mel_triangles

    triangles = mel_triangles(RATE, 512, 40)
    for place, name in zip(*frequency_ticks(40, RATE)):
        heaviest = int(triangles[round(int(name) / (RATE / 512))].argmax())
        assert abs(heaviest - place) <= 1


def test_flac_holds_what_was_played_and_clips_what_is_too_loud():
    samples, rate = soundfile.read(io.BytesIO(flac(np.array([0.0, 0.5, -0.5, 2.0, -2.0]), 8000)), dtype="int16")
    assert samples.tolist() == [0, 16384, -16384, 32767, -32768] and rate == 8000
