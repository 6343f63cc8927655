"""Global mapping files, STM and CTM: the effect of rules on words, the assignment of words to segments, refusals."""

import pytest

from asr.errors import UserError
from asr.scoring.nist.ctm import read_ctm, spread_words
from asr.scoring.nist.glm import GlobalMapping, RuleSet, filter_text
from asr.scoring.nist.network import align_networks, build_network, parse_markup
from asr.scoring.nist.rules import ScoringRules
from asr.scoring.nist.stm import read_stm
from asr.scoring.nist.trn import score_trn

HEAD = ";; rules for tests\n"


def rules_of(tmp_path, *lines: str, kind: str = "stm", purpose: str = "ref") -> RuleSet:
    path = tmp_path / "rules.glm"
    path.write_text(HEAD + "".join(f"{line}\n" for line in lines), encoding="utf8")
    return GlobalMapping.read(path).rules(kind, purpose)


def filtered(tmp_path, text: str, *lines: str) -> str:
    return filter_text(f" {text} ", rules_of(tmp_path, *lines))


def counts(reference: str, hypothesis: str) -> tuple[int, int, int, int]:
    """Hits, substitutions, deletions and insertions of two transcripts in markup."""
    a = align_networks(*(build_network(parse_markup(text)) for text in (reference, hypothesis)))
    return a.hits, a.substitutions, a.deletions, a.insertions


def written(tmp_path, name: str, content: str):
    path = tmp_path / name
    path.write_text(content, encoding="utf8")
    return path


def test_words_that_no_rule_names_stay_as_they_are_though_a_rule_is_a_part_of_them(tmp_path):
    rules = [
        "I'M => I AM / [ ] __ [ ]", "IM => I AM / [ ] __ [ ]", "TI => TEE EYE / [ ] __ [ ]", "UM => %HESITATION / [ ] __ [ ]",
        "ER => %HESITATION / [ ] __ [ ]", "DAY => / [BIRTH ] __ [ ]", "EH => %HESITATION / [ ] __ [ ]",
    ]  # fmt: skip
    for text in ("TIME", "THE DAY BEFORE YESTERDAY", "SUMMER TIME IS OVER", "BEHIND THE NUMBER"):
        assert filtered(tmp_path, text, *rules) == text
    assert filtered(tmp_path, "TIME IM UM", *rules) == "TIME I AM %HESITATION"


def test_a_rule_without_contexts_matches_inside_of_words_as_in_nists_rfilter1(tmp_path):
    assert filtered(tmp_path, "CANCELLED XCANCELLEDX", "CANCELLED => CANCELED") == "CANCELED XCANCELEDX"


def test_the_first_rule_that_matches_is_applied_and_its_result_is_not_looked_at_again(tmp_path):
    rules = ["GOOD BY => GOOD BYE / [ ] __ [ ]", "GOOD => FINE / [ ] __ [ ]", "FINE => BAD / [ ] __ [ ]"]
    assert filtered(tmp_path, "GOOD BY GOOD FINE", *rules) == "GOOD BYE FINE BAD"


def test_contexts_may_hold_words_and_a_rule_may_remove_what_it_matches(tmp_path):
    rules = ["FALKNER => FAULKNER / [WILLIAM ] __ [ ]", "[LAUGH] => / [ ] __ [ ]"]
    assert filtered(tmp_path, "WILLIAM FALKNER LAUGH BOB FALKNER", *rules) == "WILLIAM FAULKNER BOB FALKNER"


def test_rules_below_input_dependent_application_apply_to_the_files_that_it_names(tmp_path):
    lines = [
        "UH => %HESITATION / [ ] __ [ ]",
        ';; INPUT_DEPENDENT_APPLICATION = "ctm"',
        "HE'S => {HE IS / HE HAS} / [ ] __ [ ]",
    ]
    assert filter_text(" he's uh ", rules_of(tmp_path, *lines)) == "HE'S %HESITATION"
    assert filter_text(" he's ", rules_of(tmp_path, *lines, kind="ctm", purpose="hyp")) == "{HE IS / HE HAS}"


def test_case_sensitive_rules_in_small_letters_match_nothing_since_texts_come_in_capitals(tmp_path):
    assert filtered(tmp_path, "gonna", "gonna => GOING TO") == "GONNA"
    assert filtered(tmp_path, "gonna", "* case_sensitive = 'F'", "gonna => GOING TO") == "GOING TO"


def test_hyphens_inside_of_words_become_spaces_and_those_of_fragments_stay(tmp_path):
    text = "twenty-one-two ab- -cd (e-f) (gh-) -"
    assert filtered(tmp_path, text) == "TWENTY ONE TWO AB- -CD (E) (F) (GH-) -"


def test_optional_words_in_common_parentheses_may_each_be_left_out(tmp_path):
    assert filtered(tmp_path, "so (you know man) yes") == "SO (YOU) (KNOW) (MAN) YES"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("GOING TO", "no =>"),
        ("=> X", "nothing before the =>"),
        ("  ;; a comment that is not in the first column", "no rule before the comment"),
        ("* max_nrules = many", "quotation marks"),
        ("* max_nrules = 'many'", "whole number"),
        ("* format = 'NIST2'", "the format must be NIST1"),
        ("A => {B / C}", "is not closed"),
        (';; INPUT_DEPENDENT_APPLICATION = "(ctm"', "not a regular expression"),
    ],
)
def test_a_line_that_is_no_rule_is_named_by_file_and_line(tmp_path, line, said):
    with pytest.raises(UserError, match=r"rules\.glm, line 3") as refused:
        rules_of(tmp_path, ";; nothing", line)
    assert said in str(refused.value)


def test_more_rules_than_the_header_allows_are_refused(tmp_path):
    with pytest.raises(UserError, match="line 4: there are more rules than the file allows"):
        rules_of(tmp_path, "* max_nrules = '1'", "A => B", "C => D")


def test_an_empty_file_and_one_that_is_not_there_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"empty\.glm is empty"):
        GlobalMapping.read(written(tmp_path, "empty.glm", ""))
    with pytest.raises(UserError, match=r"absent\.glm cannot be read: No such file"):
        GlobalMapping.read(tmp_path / "absent.glm")


def test_any_of_the_alternatives_is_right_and_one_may_be_nothing():
    assert counts("{ he is / he has } gone", "he has gone") == (3, 0, 0, 0)
    assert counts("well { okay / @ } yes", "well yes") == (2, 0, 0, 0)
    assert counts("a { b c / d { e / f g } / @ } h", "a d f g h") == (5, 0, 0, 0)
    assert counts("it is", "{ it is / it has / it's }") == (2, 0, 0, 0)


def test_an_optional_word_counts_as_correct_whether_it_is_there_or_not():
    assert counts("(uh) yes", "yes") == counts("(uh) yes", "uh yes") == (2, 0, 0, 0)
    assert counts("(uh) yes", "no") == (1, 1, 0, 0)
    # as sclite has it: an optional word of the hypothesis that nobody said is a word of the reference that is correct
    assert counts("yes", "(uh) yes") == (2, 0, 0, 0)


def test_a_fragment_is_right_where_the_word_begins_or_ends_with_it():
    assert counts("abs- -day y-", "absolute yesterday no") == (2, 1, 0, 0)
    assert counts("(abs-) x", "absolute x") == (2, 0, 0, 0)


def test_letters_are_compared_without_their_case():
    assert counts("IBM Zürich", "ibm zürich") == (2, 0, 0, 0)


def test_a_word_that_is_right_is_kept_at_the_price_of_a_deletion_and_an_insertion():
    # two errors either way, but 3 + 3 is less than 4 + 4
    assert counts("a b", "b c") == (1, 0, 1, 1)


def test_segments_come_with_times_labels_and_names_as_kaldi_gives_them(tmp_path):
    stm = read_stm(
        written(
            tmp_path,
            "ref.stm",
            ';; LABEL "O" "Overall" "All"\nsw_1 B spk_b 0.5 2.25 <O,sw> HELLO (UH)\nsw_1 A spk_a 3.00 4.00 yes\n\n'
            "sw_1 A spk_a 0.10 2.00 IGNORE_TIME_SEGMENT_IN_SCORING\nsw_1 A x 5 6\n",
        )
    )
    assert [segment.identity for segment in stm.segments] == [
        "sw_1-A_000010-000200", "sw_1-A_000300-000400", "sw_1-A_000500-000600", "sw_1-B_000050-000225",
    ]  # fmt: skip
    assert [segment.ignored for segment in stm.segments] == [True, False, False, False]
    assert stm.segments[3].labels == ("o", "sw") and stm.labels == {"o": "Overall"}
    assert [segment.text for segment in stm.scored] == ["yes", "", "HELLO (UH)"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("sw_1 A spk 0.1", "4 fields instead of 5 or more"),
        ("sw_1 A spk nought 1.0 yes", "the start must be a number of seconds"),
        ("sw_1 A spk 0.0 inf yes", "the end must be a number of seconds"),
        ("sw_1 A spk 2.0 1.0 yes", "ends at 1.0 s, before its start at 2.0 s"),
        ("sw_1 A spk 0.0 1.0 { yes / no", "not closed"),
        ("sw_1 A spk 0.0 1.0 { } yes", "without a word"),
        ("sw_1 A spk 0.0 1.0 yes }", "does not open or close an alternation"),
    ],
)
def test_a_line_of_an_stm_that_is_not_of_the_form_is_named(tmp_path, line, said):
    path = written(tmp_path, "ref.stm", f";; comment\n{line}\n")
    with pytest.raises(UserError, match=r"ref\.stm, line 2") as refused:
        ScoringRules.read(path)
    assert said in str(refused.value)


def test_parentheses_that_are_not_in_pairs_are_refused_as_csrfilt_refuses_them(tmp_path):
    stm = written(tmp_path, "ref.stm", "sw_1 A spk 0.0 1.0 ((uh) yes\n")
    with pytest.raises(UserError, match=r"ref\.stm, line 1: parentheses that are not in pairs"):
        ScoringRules.read(stm, written(tmp_path, "rules.glm", HEAD))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("sw_1 A 0.1 0.2", "4 fields instead of 5 or more"),
        ("sw_1 A start 0.2 yes", "the start must be a number of seconds"),
        ("sw_1 A 0.1 -0.2 yes", "the duration must be a number of seconds"),
        ("sw_1 A * * <ALT_BEGIN>", "alternatives cannot be read"),
    ],
)
def test_a_line_of_a_ctm_that_is_not_of_the_form_is_named(tmp_path, line, said):
    with pytest.raises(UserError, match=r"hyp\.ctm, line 3") as refused:
        read_ctm(written(tmp_path, "hyp.ctm", f";; comment\nsw_1 A 0.0 0.1 yes\n{line}\n"))
    assert said in str(refused.value)


TWO = "sw_1 A spk 1.0 2.0 one\nsw_1 A spk 2.0 3.0 two\nsw_1 A spk 6.0 7.0 IGNORE_TIME_SEGMENT_IN_SCORING\nsw_1 A spk 8.0 9.0 x\n"


def test_words_go_to_the_segment_that_their_middle_lies_in_and_those_outside_of_all_are_counted_and_named(tmp_path):
    rules = ScoringRules.read(written(tmp_path, "ref.stm", TWO))
    lines = ["0.0 0.2 early", "1.8 0.3 one", "1.9 0.4 two", "4.0 0.5 between", "6.2 0.2 dropped", "9.5 0.1 late"]
    scored = rules.score_ctm(written(tmp_path, "hyp.ctm", "".join(f"sw_1 A {line}\n" for line in lines)))
    heard = {utterance.utterance: utterance.hypothesis for utterance in scored.utterances}
    assert heard == {
        "sw_1-A_000100-000200": ["early", "one"],
        "sw_1-A_000200-000300": ["two"],
        "sw_1-A_000800-000900": ["late"],
    }
    assert [(word.text, word.line) for word in scored.outside] == [("early", 1), ("between", 4), ("late", 6)]
    assert [word.text for word in scored.ignored] == ["between", "dropped"]


def test_words_of_a_file_or_channel_without_a_reference_are_refused(tmp_path):
    rules = ScoringRules.read(written(tmp_path, "ref.stm", TWO))
    with pytest.raises(UserError, match=r"hyp\.ctm, line 2: the reference has no segment of the file sw_2 A"):
        rules.score_ctm(written(tmp_path, "hyp.ctm", "sw_1 A 1.0 0.1 one\nsw_2 A 1.0 0.1 one\n"))
    with pytest.raises(UserError, match=r"hyp\.ctm, line 1: the reference has no segment of the channel sw_1 B"):
        rules.score_ctm(written(tmp_path, "hyp.ctm", "sw_1 B 1.0 0.1 one\n"))


def test_a_hypothesis_of_an_unknown_or_ignored_segment_and_a_second_one_are_refused(tmp_path):
    rules = ScoringRules.read(written(tmp_path, "ref.stm", TWO))
    with pytest.raises(UserError, match="no scored segment called 'sw_1-A_000100-000299': did you mean"):
        rules.score([("sw_1-A_000100-000299", ["one"])])
    with pytest.raises(UserError, match="no scored segment called 'sw_1-A_000600-000700'"):
        rules.score([("sw_1-A_000600-000700", [])])
    with pytest.raises(UserError, match="two hypotheses for the segment sw_1-A_000100-000200"):
        rules.score([("sw_1-A_000100-000200", ["one"]), ("sw_1-A_000100-000200", [])])


def test_spread_words_come_back_to_their_segments(tmp_path):
    stm = "sw_1 A s 0 2 a\nsw_1 A s 1.5 2.2 b\nsw_1 A s 2.2 2.31 c\nsw_1 B s 0 1 d\nsw_2 A s 0 1 e\n"
    rules = ScoringRules.read(written(tmp_path, "ref.stm", stm))
    said = [[f"w{number}"] * number for number in (3, 2, 7, 0, 1)]
    hypotheses = dict(zip(rules.segments, said))
    scored = rules.score_words(spread_words(rules.stm.segments, hypotheses))
    assert [utterance.hypothesis for utterance in scored.utterances] == [*said[:3], ["@", "@"], ["w1", "@"]]
    assert scored.outside == []
    assert [u.alignment.insertions + u.alignment.substitutions for u in scored.utterances] == [3, 2, 7, 0, 1]


def test_a_segment_within_the_time_of_another_cannot_be_given_words(tmp_path):
    rules = ScoringRules.read(written(tmp_path, "ref.stm", "f A s 0 5 a\nf A s 1 2 b\nf A s 6 7 c\n"))
    with pytest.raises(UserError, match="f-A_000100-000200 of f A lies within the time of earlier ones"):
        spread_words(rules.stm.segments, {"f-A_000100-000200": ["b"]})


def test_the_words_of_a_hypothesis_are_filtered_one_by_one_as_in_a_ctm(tmp_path):
    glm = written(
        tmp_path, "rules.glm", HEAD + "NEW YORK => NEWYORK\nUH => / [ ] __ [ ]\nHE'S => {HE IS / HE HAS} / [ ] __ [ ]\n"
    )
    rules = ScoringRules.read(written(tmp_path, "ref.stm", "f A s 0 5 new york he has\n"), glm)
    (score,) = rules.score([("f-A_000000-000500", ["New", "uh", "York", "he's"])])
    assert score.markup == ("newyork he has", "new york { he is / he has }")
    assert score.reference == ["newyork", "he", "has"]
    a = score.alignment
    assert (a.hits, a.substitutions, a.deletions, a.insertions) == (2, 1, 0, 1)
    assert score.duration == 5.0 and score.speaker == "s"


def test_transcripts_are_refused_by_file_and_line(tmp_path):
    good = written(tmp_path, "ref.trn", "yes (s-1)\nno (s-2)\n")
    for content, said in (
        ("yes\n", r"hyp\.trn, line 1: the line must end with the utterance's identity"),
        ("yes (s-1)\nyes (S-1)\n", r"hyp\.trn, line 2: the utterance S-1 is in the file twice"),
        ("yes (s-3)\n", r"hyp\.trn, line 1: .*ref\.trn has no utterance s-3"),
        ("", r"hyp\.trn holds no utterance"),
    ):
        with pytest.raises(UserError, match=said):
            score_trn(good, written(tmp_path, "hyp.trn", content))


@pytest.mark.parametrize(("choice", "scored", "deleted"), [("deletions", 2, 1), ("skip", 1, 0)])
def test_an_utterance_without_a_hypothesis_counts_as_deletions_or_not_at_all(tmp_path, choice, scored, deleted):
    files = written(tmp_path, "ref.trn", "yes (s-1)\nno (s-2)\n"), written(tmp_path, "hyp.trn", "yes (s-1)\n")
    scores, missing = score_trn(*files, missing=choice)
    assert len(scores) == scored and missing == ["s-2"]
    assert sum(score.alignment.deletions for score in scores) == deleted


def test_an_utterance_without_a_hypothesis_may_be_refused(tmp_path):
    files = written(tmp_path, "ref.trn", "yes (s-1)\nno (s-2)\n"), written(tmp_path, "hyp.trn", "yes (s-1)\n")
    with pytest.raises(UserError, match=r"hyp\.trn has no hypothesis for 1 utterance of the reference \(s-2\)"):
        score_trn(*files, missing="error")
    with pytest.raises(UserError, match="missing=deletion is not one of the choices: did you mean deletions"):
        score_trn(*files, missing="deletion")
