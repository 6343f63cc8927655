"""The spoken words of an Asterisk prompt, from its written transcript."""

from __future__ import annotations

import re
import unicodedata

LANGUAGES = ("en", "es", "fr", "it", "ru")

DIGITS = {
    "en": "zero one two three four five six seven eight nine",
    "es": "cero uno dos tres cuatro cinco seis siete ocho nueve",
    "fr": "zéro un deux trois quatre cinq six sept huit neuf",
    "it": "zero uno due tre quattro cinque sei sette otto nove",
    "ru": "ноль один два три четыре пять шесть семь восемь девять",
}
TEENS = "ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen".split()
TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
# As said on the telephone: # is the pound key, * the star key.
SIGNS = {"#": "pound", "*": "star", "%": "percent", "$": "dollar", "&": "and", "@": "at", "+": "plus", "=": "equals"}
# English words in capitals are spelled out letter by letter, except these.
SAID_AS_WORDS = {"DAHDI": "dahdi", "IAX": "eeks", "SIP": "sip"}
# Removed, because nobody speaks it.
PUNCTUATION = frozenset('.,;:!?"“”„«»‹›…()[]-–—/')


def spoken_words(transcript: str, language: str) -> tuple[str, str | None]:
    """The words of a prompt: lower case, single spaces, apostrophes inside words kept, other punctuation removed.

    Notes in parentheses and brackets are removed; digits and signs become words: all of them in English, single digits
    in the other languages, whose larger numbers change with the words around them.

    Returns (words, None), or ("", the reason why the prompt cannot be used).
    """
    text = unicodedata.normalize("NFC", transcript).strip()
    if text[:1] in ("[", "(", "<"):
        return "", "not speech"
    text = re.sub(r"\([^()]*\)|\[[^\[\]]*\]|<[^<>]*>", " ", text)
    text = re.sub(r"[’‘`]", "'", text)
    text = _english(text) if language == "en" else _single_digits(text, language)
    characters = []
    for character in text:
        if character == "'" or unicodedata.category(character)[0] in "LM":
            characters.append(character)
        elif character.isspace() or character in PUNCTUATION:
            characters.append(" ")
        elif character.isdigit():
            return "", "a number not written in words"
        else:
            return "", f"the sign {character} has no word"
    words = [word.strip("'").lower() for word in "".join(characters).split()]
    words = [word for word in words if word]
    return (" ".join(words), None) if words else ("", "no words")


def _single_digits(text: str, language: str) -> str:
    names = DIGITS[language].split()
    return re.sub(r"(?<![\d.,])\d(?![.,]?\d)", lambda digit: f" {names[int(digit[0])]} ", text)


def _english(text: str) -> str:
    """English by rule: initials, abbreviations, addresses, numbers and signs into words."""
    text = re.sub(r"\b(?:[A-Za-z]\.){2,}", lambda initials: " ".join(initials[0].replace(".", " ")), text)
    text = re.sub(r"\b(re|de|un)-(?=[a-z])", r"\1", text, flags=re.IGNORECASE)
    text = re.sub(r"\bwww\b", "w w w", text)
    text = re.sub(r"(?<=[a-z])\.(?=[a-z])", " dot ", text)
    text = re.sub(r"\b[A-Z]{2,}\b", lambda word: SAID_AS_WORDS.get(word[0], " ".join(word[0])), text)
    text = re.sub(r"\d+(?:\.\d+)?", lambda number: f" {number_in_words(number[0])} ", text)
    return re.sub(r"[#*%$&@+=]", lambda sign: f" {SIGNS[sign[0]]} ", text)


def number_in_words(number: str) -> str:
    """A number as read out on the telephone: "28.8" twenty eight point eight, "500" five hundred, "323" three twenty three.

    Numbers of four digits or more, or with a leading zero, are read digit by digit.
    """
    digits = DIGITS["en"].split()
    whole, _, decimals = number.partition(".")
    if decimals:
        return f"{number_in_words(whole)} point {' '.join(digits[int(digit)] for digit in decimals)}"
    value = int(whole)
    if len(whole) > 3 or (len(whole) > 1 and whole[0] == "0"):
        return " ".join(digits[int(digit)] for digit in whole)
    if value < 10:
        return digits[value]
    if value < 20:
        return TEENS[value - 10]
    if value < 100:
        return TENS[value // 10 - 2] + (f" {digits[value % 10]}" if value % 10 else "")
    hundreds, rest = divmod(value, 100)
    if rest == 0:
        return f"{digits[hundreds]} hundred"
    return f"{digits[hundreds]} {'oh ' if rest < 10 else ''}{number_in_words(str(rest))}"


def read_transcripts(lines: list[str], file: str) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """The transcripts by key, from lines `key: text` (`;` starts a comment), and the unusable ones as (key, reason)."""
    texts: dict[str, str] = {}
    dropped: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        line = line.lstrip("\ufeff").strip()
        if not line or line.startswith(";"):
            continue
        entry = re.fullmatch(r"([^\s:]+):\s*(.*)", line)
        if entry is None:
            dropped[f"{file}:{number}"] = "not a line of the form key: text"
            continue
        key, text = entry[1], entry[2].removeprefix(f"{entry[1]}:").strip()
        if key in texts and texts[key] != text:
            dropped[key] = "two different transcripts"
        texts.setdefault(key, text)
    for key, text in texts.items():
        if not text and key not in dropped:
            dropped[key] = "empty transcript"
    return {key: text for key, text in texts.items() if key not in dropped}, sorted(dropped.items())
