"""The text of WSJ: transcript files, the rules that turn them into words, and punctuation read aloud.

The rules are those of Kaldi's recipe egs/wsj/s5 (local/normalize_transcript.pl), token by token, so that error rates can be
compared; each has a name and a count. The notation is that of the discs' own "detailed orthographic transcriptions".
"""

from __future__ import annotations

import collections
import re

from asr.runtime.text_files import read_lines

# Punctuation that was read aloud ("verbalized") is a token of its own in the texts; these are the pronunciations.
# Each is that of its words in cmudict, except for PAREN, PARENS and ELLIPSIS, which cmudict lacks.
VERBALIZED = {
    token: phonemes
    for token, phonemes in (
        line.split(maxsplit=1)
        for line in """
!EXCLAMATION-POINT    EH K S K L AH M EY SH AH N P OY N T
"CLOSE-QUOTE          K L OW Z K W OW T
"DOUBLE-QUOTE         D AH B AH L K W OW T
"END-OF-QUOTE         EH N D AH V K W OW T
"END-QUOTE            EH N D K W OW T
"IN-QUOTES            IH N K W OW T S
"OPEN-QUOTE           OW P AH N K W OW T
"QUOTE                K W OW T
"UNQUOTE              AH N K W OW T
#HASH-MARK            HH AE SH M AA R K
#NUMBER-SIGN          N AH M B ER S AY N
#POUND-SIGN           P AW N D S AY N
#SHARP-SIGN           SH AA R P S AY N
$DOLLAR-SIGN          D AA L ER S AY N
%PERCENT              P ER S EH N T
%PERCENT-SIGN         P ER S EH N T S AY N
&AMPERSAND            AE M P ER S AE N D
'APOSTROPHE           AH P AA S T R AH F IY
'CLOSE-QUOTE          K L OW Z K W OW T
'CLOSE-SINGLE-QUOTE   K L OW Z S IH NG G AH L K W OW T
'END-INNER-QUOTE      EH N D IH N ER K W OW T
'END-QUOTE            EH N D K W OW T
'INNER-QUOTE          IH N ER K W OW T
'OPEN-SINGLE-QUOTE    OW P AH N S IH NG G AH L K W OW T
'QUOTE                K W OW T
'SINGLE-CLOSE-QUOTE   S IH NG G AH L K L OW Z K W OW T
'SINGLE-OPEN-QUOTE    S IH NG G AH L OW P AH N K W OW T
'SINGLE-QUOTE         S IH NG G AH L K W OW T
'UNQUOTE              AH N K W OW T
(BEGIN-PAREN          B IH G IH N P ER EH N
(BEGIN-PARENS         B IH G IH N P ER EH N Z
(BRACE                B R EY S
(IN-PARENTHESES       IH N P ER EH N TH AH S IY Z
(IN-PARENTHESIS       IH N P ER EH N TH AH S IH S
(LEFT-PAREN           L EH F T P ER EH N
(LEFT-PARENTHESIS     L EH F T P ER EH N TH AH S IH S
(OPEN-PAREN           OW P AH N P ER EH N
(OPEN-PARENTHESES     OW P AH N P ER EH N TH AH S IY Z
(OPEN-PARENTHESIS     OW P AH N P ER EH N TH AH S IH S
(PAREN                P ER EH N
(PARENS               P ER EH N Z
(PARENTHESES          P ER EH N TH AH S IY Z
(PARENTHESIS          P ER EH N TH AH S IH S
(PARENTHETICALLY      P ER EH N TH EH T IH K AH L IY
)CLOSE-BRACE          K L OW Z B R EY S
)CLOSE-PAREN          K L OW Z P ER EH N
)CLOSE_PAREN          K L OW Z P ER EH N
)CLOSE-PARENTHESES    K L OW Z P ER EH N TH AH S IY Z
)CLOSE-PARENTHESIS    K L OW Z P ER EH N TH AH S IH S
)END-OF-PAREN         EH N D AH V P ER EH N
)END-PAREN            EH N D P ER EH N
)END-PARENS           EH N D P ER EH N Z
)END-PARENTHESES      EH N D P ER EH N TH AH S IY Z
)END-PARENTHESIS      EH N D P ER EH N TH AH S IH S
)END-THE-PAREN        EH N D DH AH P ER EH N
)PAREN                P ER EH N
)PARENS               P ER EH N Z
)PARENTHESES          P ER EH N TH AH S IY Z
)RIGHT-PAREN          R AY T P ER EH N
)RIGHT-PARENTHESIS    R AY T P ER EH N TH AH S IH S
)UN-PARENTHESES       AH N P ER EH N TH AH S IY Z
*ASTERISK             AE S T ER IH S K
+PLUS                 P L AH S
+PLUS-SIGN            P L AH S S AY N
,COMMA                K AA M AH
--DASH                D AE SH
-DASH                 D AE SH
-HYPHEN               HH AY F AH N
-MINUS                M AY N AH S
-MINUS-SIGN           M AY N AH S S AY N
...ELLIPSIS           IH L IH P S IH S
.DECIMAL              D EH S AH M AH L
.DECIMAL-POINT        D EH S AH M AH L P OY N T
.DOT                  D AA T
.FULL-STOP            F UH L S T AA P
.PERCENT              P ER S EH N T
.PERIOD               P IH R IY AH D
.POINT                P OY N T
/SLASH                S L AE SH
:COLON                K OW L AH N
;SEMI-COLON           S EH M IY K OW L AH N
;SEMICOLON            S EH M IY K OW L AH N
=EQUALS               IY K W AH L Z
=EQUALS-SIGN          IY K W AH L Z S AY N
?QUESTION-MARK        K W EH S CH AH N M AA R K
@AT-SIGN              AE T S AY N
[LEFT-BRACKET         L EH F T B R AE K IH T
]RIGHT-BRACKET        R AY T B R AE K IH T
`OPEN-QUOTE           OW P AH N K W OW T
`QUOTE                K W OW T
`SINGLE-QUOTE         S IH NG G AH L K W OW T
{LEFT-BRACE           L EH F T B R EY S
{OPEN-BRACE           OW P AH N B R EY S
}CLOSE-BRACE          K L OW Z B R EY S
}RIGHT-BRACE          R AY T B R EY S
""".split("\n")
        if line
    )
}

# The phonemes of what is not a word: noises not made with the voice, noises made with it, and silence.
NOISES = {"<NOISE>": "NSN", "<SPOKEN_NOISE>": "SPN", "<SIL>": "SIL"}
# Abbreviations whose first pronunciation elsewhere is not how they are read in a newspaper: "drive Smith", "sunt Louis".
ABBREVIATIONS = {"DR.": "D AA K T ER", "ST.": "S EY N T"}

# Name, pattern (of the entire token), replacement; None: the token is not a word and is left out. They are tried in this
# order, after "upper case" and "backslash", until one matches.
_RULES = (
    ("%PERCENT", re.compile(r"%PERCENT"), "PERCENT"),
    (".POINT", re.compile(r"\.POINT"), "POINT"),
    ("[<noise]", re.compile(r"\[<[^\[\]<>/]+\]"), None),
    ("[noise>]", re.compile(r"\[[^\[\]<>/]+>\]"), None),
    ("[noise/]", re.compile(r"\[[^\[\]<>/]+/\]"), None),
    ("[/noise]", re.compile(r"\[/[^\[\]<>/]+\]"), None),
    ("~", re.compile(r"~"), None),
    (".", re.compile(r"\."), None),
    ("[noise]", re.compile(r"\[[^\[\]<>/]+\]"), "<NOISE>"),
    ("<word>", re.compile(r"<([^<>]+)>"), r"\1"),
    ("--DASH", re.compile(r"--DASH"), "-DASH"),
)
# What each rule does, in words, in the order of application.
RULES = {
    "word[noise]": "a noise written next to a word without a space is separated from it",
    "upper case": "letters become capitals",
    "backslash": "the backslashes that quote other characters are removed",
    "%PERCENT": "becomes PERCENT (the transcripts of the November 1993 tests)",
    ".POINT": "becomes POINT (likewise)",
    "[<noise]": "a noise during the word before: left out",
    "[noise>]": "a noise during the word after: left out",
    "[noise/]": "where a noise begins: left out",
    "[/noise]": "where it ends: left out",
    "~": "the waveform is cut off here: left out",
    ".": "a pause: left out",
    "[noise]": "a noise between words: becomes <NOISE>",
    "<word>": "a word that was said but differs from the prompt: becomes that word",
    "--DASH": "becomes -DASH",
}

# The entire transcript of an utterance for which nothing was recorded.
NULL_WAVEFORM = "~~"

# Between a word and a noise in brackets, whichever comes first.
_GLUED = re.compile(r"(?<=[^\s\[])(?=\[[^\[\]\s]+\])|(?<=[^\s\\]\])(?=[^\s\[\]])")
# Some files end with a control-Z, like DOS text files.
DOS_END = "\x1a\0"
_LINE = re.compile(r"(.*?)\s*\((\w{8})\)")


def normalize(transcript: str, counts: collections.Counter[str] | None = None) -> str:
    """The words of a transcript, by RULES, token by token. Adds the tokens that each rule changed to `counts`."""
    counts = collections.Counter() if counts is None else counts
    words = []
    transcript, glued = _GLUED.subn(" ", transcript)
    counts["word[noise]"] += glued
    for token in transcript.split():
        word = _normalize_token(token, counts)
        if word:
            words.append(word)
    return " ".join(words)


def _normalize_token(token: str, counts: collections.Counter[str]) -> str | None:
    word = token.upper()
    counts["upper case"] += word != token
    if "\\" in word:
        word = word.replace("\\", "")
        counts["backslash"] += 1
    for name, pattern, replacement in _RULES:
        match = pattern.fullmatch(word)
        if match:
            counts[name] += 1
            return match.expand(replacement) if replacement is not None else None
    return word


def read_transcripts(path: str) -> tuple[dict[str, str], list[tuple[int, str]]]:
    """({utterance: transcript as written}, [(line, what is wrong with it)]) of a .dot file: lines `text (utterance)`.

    Utterances are in lower case. One with two different transcripts is left out. Raises UserError if the file cannot be
    read.
    """
    transcripts: dict[str, str] = {}
    line_of: dict[str, int] = {}
    wrong = []
    unclear = set()
    for number, line in enumerate(read_lines(path, otherwise="latin1"), start=1):
        line = line.rstrip(DOS_END)
        if not line.strip():
            continue
        match = _LINE.fullmatch(line.strip())
        if match is None:
            wrong.append((number, f"expected `text (utterance)`, found {line.strip()[:60]!r}"))
            continue
        text, utterance = match[1], match[2].lower()
        first = line_of.setdefault(utterance, number)
        if transcripts.setdefault(utterance, text) != text:
            wrong.append((number, f"{utterance} has another transcript on line {first}"))
            unclear.add(utterance)
    return {utterance: text for utterance, text in transcripts.items() if utterance not in unclear}, wrong


def letters_said(word: str) -> str:
    """The word without the marks of the detailed transcriptions, for looking it up in a dictionary; the text keeps them.

    `*word*` is mispronounced, `!word` stressed and `wo:rd` drawn out; in `wo(rd)-` the part in parentheses was not said.
    "" if no letter remains.
    """
    plain = re.sub(r"\([^()]*\)", "", word) if re.search(r"\w.*\(|\).*\w", word) else word
    plain = plain.replace("*", "").replace("!", "").replace(":", "").replace("`", "'").strip(';,?"(){}[]<>')
    return plain if re.search(r"[^\W_]", plain) else ""


def special_pronunciations(words: set[str]) -> dict[str, str]:
    """{word: its phonemes} of everything that dictionaries lack: punctuation, noises, and the words with marks in `words`.

    A word of which no letter was said is SPN, a noise made with the voice.
    """
    from asr.text.lexicon.pronouncing import pronounced

    special = VERBALIZED | NOISES | ABBREVIATIONS
    for word in sorted(words - special.keys()):
        said = letters_said(word)
        if said == word:
            continue
        phonemes = special.get(said, "").split() or pronounced(said)[0] if said else ("SPN",)
        if phonemes:
            special[word] = " ".join(phonemes)
    return special
