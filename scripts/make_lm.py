"""Estimates an n-gram language model: python scripts/make_lm.py text=FILE order=3 output=lm.arpa [dev=FILE] [prune=1e-8]

Uses interpolated modified Kneser-Ney smoothing, equal to KenLM's lmplz to six digits, and writes ARPA. Texts are UTF-8 with one
sentence per line and words separated by spaces, plain or compressed.

    text=          a text to estimate from; may be given several times; - is standard input
    corpus=        a corpus to estimate from its training split, normalized as its units do; its settings are
                   corpus.KEY=VALUE (python scripts/prepare.py lists them), cache=.cache and workers=2
    lm=            an existing model instead, ARPA (plain or compressed) or a KenLM binary
    order=3        length of the longest n-grams
    cutoffs=       per order from 1: drops n-grams that occur at most this often; 0,0,1 drops trigrams that occur once; default 0
    prune=         entropy pruning: drops n-grams that each change the perplexity by less than this, such as 1e-8
    normalizer=    none, words or speech (words-tr for Turkish; a corpus knows its language); auto is none for texts and for
                   corpora with a lexicon of their own, else words
    words=         more words to allow: cmudict, or a file with one per line; they share the probability of unseen words
    dev=           a text to compute the perplexity of; with corpus=, its dev split by default
    output=        lm.arpa or, compressed, lm.arpa.gz
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable
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
    "text": (str, None),
    "corpus": (str | None, None),
    "cache": (str, ".cache"),
    "workers": (int, processors()),
    "lm": (str | None, None),
    "order": (int, 3),
    "cutoffs": (str, ""),
    "prune": (float, 0.0),
    "normalizer": (str, "auto"),
    "words": (str | None, None),
    "dev": (str | None, None),
    "output": (str | None, None),
}
ESTIMATING = ("text", "corpus", "order", "cutoffs", "words")


def parse_arguments(arguments: list[str]) -> dict[str, Any]:
    """All settings; `text` is a list, `cutoffs` a list of numbers, and `corpus_settings` has those of the corpus.

    Raises UserError for unknown settings, for values of the wrong kind, and for settings that do not fit together.
    """
    settings: dict[str, Any] = {key: default for key, (_, default) in SETTINGS.items()} | {"text": []}
    typed, of_corpus = set(), {}
    for argument in arguments:
        key, equals, text = parted(argument)
        if equals and key.startswith("corpus."):
            of_corpus[key.removeprefix("corpus.")] = text
            continue
        if not equals:
            raise UserError(f"{argument!r} is not of the form setting=value: {nearest(key, SETTINGS)}.")
        if key not in SETTINGS:
            raise UserError(f"There is no setting {key!r}: {nearest(key, SETTINGS)}.")
        typed.add(key)
        value = parse(text, SETTINGS[key][0], key)
        settings[key] = [*settings["text"], text] if key == "text" else value
    try:
        settings["cutoffs"] = [int(part) for part in settings["cutoffs"].split(",") if settings["cutoffs"]]
    except ValueError:
        raise UserError(
            f"cutoffs={settings['cutoffs']} is not a list of whole numbers: separate them by commas, as in 0,0,1."
        ) from None
    if settings["lm"] is not None and (both := [key for key in ESTIMATING if key in typed]):
        raise UserError(
            f"lm={settings['lm']} names an existing model, and {both[0]}=... is for estimating one. Leave one out."
        )
    if settings["lm"] is None and not settings["text"] and settings["corpus"] is None:
        raise UserError("text=FILE is missing (or corpus=NAME, or lm=FILE): python scripts/make_lm.py --help")
    if settings["output"] is None and settings["dev"] is None and settings["corpus"] is None:
        raise UserError("The model would go nowhere: add output=lm.arpa, or dev=FILE for a perplexity.")
    settings["corpus_settings"] = parse_corpus(settings["corpus"], of_corpus)
    return settings


class CorpusText:
    """The sentences of a split of a corpus, like `asr.text.ngrams.TextFile`. normalizer: as in `asr.text.normalization`."""

    def __init__(self, corpus, split: str, normalizer: str):
        self.path, self.corpus, self.split, self.normalizer = f"{corpus.name} {split}", corpus, split, normalizer
        self.sentences = self.words = self.blank = self.marked = self.unknown = 0

    def __iter__(self):
        from asr.text.ngrams.text import UNKNOWN
        from asr.text.normalization import normalize

        self.sentences = self.words = self.blank = self.unknown = 0
        for cut in self.corpus.splits[self.split]:
            words = normalize(cut.supervisions[0].text or "", self.normalizer)[0].split()
            self.blank += not words
            self.sentences += bool(words)
            self.words += len(words)
            self.unknown += words.count(UNKNOWN)
            if words:
                yield words


def run(arguments: list[str]) -> None:
    from rich.console import Console

    from asr.text.ngrams import TextFile, write_arpa
    from asr.text.normalization import check_normalizer, with_language

    settings = parse_arguments(arguments)
    if settings["normalizer"] != "auto":
        check_normalizer(settings["normalizer"])
    output = settings["output"] and Path(settings["output"]).expanduser()
    if output:
        refuse_unwritable(output)
    for path in (*settings["text"], settings["dev"]):
        if path not in (None, "-") and not Path(path).expanduser().is_file():
            raise UserError(f"There is no file {path}: give text= and dev= files that exist.")
    console = Console(soft_wrap=True, highlight=False, markup=False, emoji=False)
    corpus, normalizer = None, settings["normalizer"].replace("auto", "none")
    if settings["corpus"] is not None:
        from asr.data.corpora import corpora

        corpus = corpora.create(settings["corpus_settings"]).load(
            Path(settings["cache"]).expanduser(), settings["workers"]
        )
        if settings["normalizer"] == "auto":
            normalizer = "words" if corpus.lexicon is None else "none"
        normalizer = with_language(normalizer, corpus.language)
    texts: list[Any] = [TextFile(path, normalizer) for path in settings["text"]]
    texts += [CorpusText(corpus, "train", normalizer)] if corpus else []
    model = read(settings) if settings["lm"] is not None else make(settings, texts)
    show_model(console, model, settings, texts)
    dev = TextFile(settings["dev"], normalizer) if settings["dev"] else corpus and CorpusText(corpus, "dev", normalizer)
    if dev is not None:
        show_perplexity(console, model, dev)
    if output:
        write_arpa(model, output)
        console.print(f"model     {output}")


def refuse_unwritable(output: Path) -> None:
    if not output.parent.is_dir():
        raise UserError(f"output={output}: there is no folder {output.parent}. Create it first.")
    if output.exists() and not output.is_file():
        raise UserError(f"output={output} is not a file: name a file to write.")


def make(settings: dict[str, Any], texts: list[Any]):
    from asr.text.ngrams import estimate

    further = vocabulary(settings["words"]) if settings["words"] else ()
    return estimate(read_each(texts), settings["order"], settings["cutoffs"], settings["prune"], further)


def vocabulary(source: str) -> list[str]:
    """The words of cmudict in plain letters, or those of a file with one per line."""
    from asr.text.lexicon.dictionary import cmudict_lexicon
    from asr.text.lexicon.estimation import words_of

    if source == "cmudict":
        return [word for word in cmudict_lexicon() if word.replace("'", "").isalpha()]
    return words_of(Path(source))


def read_each(texts: list[Any]) -> Iterable[list[str]]:
    for text in texts:
        yield from text
        if not text.sentences:
            raise UserError(f"There is no word in {text.path}. Leave it out.")


def read(settings: dict[str, Any]):
    from asr.text.ngrams import NgramModel, prune, read_model

    model = read_model(settings["lm"])
    if not settings["prune"] and not settings["output"]:
        return model
    if not isinstance(model, NgramModel):
        raise UserError(
            f"{settings['lm']} is a KenLM binary, which can be queried but not written or pruned: give its ARPA file."
        )
    return prune(model, settings["prune"]) if settings["prune"] else model


def show_model(console, model, settings: dict[str, Any], texts: list[Any]) -> None:
    from rich.table import Table

    from asr.text.ngrams import NgramModel

    if not isinstance(model, NgramModel):
        console.print(f"{settings['lm']}: a KenLM binary of order {model.order}")
        return
    made = settings["lm"] is None
    words = sum(text.words for text in texts)
    title = f"{words:,} words in {sum(text.sentences for text in texts):,} sentences" if made else settings["lm"]
    table = Table(title=title)
    for column in ("order", "n-grams", *(("left out", "discounts of 1, 2, 3 and more") if made else ())):
        table.add_column(column, justify="right")
    orders = itertools.zip_longest(model.tables, model.discounts, model.counted)
    for order, (ngrams, discount, before) in enumerate(orders, start=1):
        row = [str(order), f"{0 if ngrams is None else len(ngrams):,}"]
        if made:
            row.append(f"{before - (0 if ngrams is None else len(ngrams)):,}")
            row.append(" ".join(f"{amount:.4f}" for amount in discount.amounts) + ("" if discount.estimated else " *"))
        table.add_row(*row)
    console.print(table)
    for note in notes_on(model, settings, texts):
        console.print(note)


def notes_on(model, settings: dict[str, Any], texts: list[Any]) -> list[str]:
    notes = []
    if any(not discount.estimated for discount in model.discounts):
        notes.append("* fixed: the text is too small or too regular to estimate discounts from its counts of counts.")
    if model.discounts and len(model.discounts) < settings["order"]:
        longest = len(model.discounts)
        notes.append(f"No sentence is long enough for n-grams of more than {longest} words: the order is {longest}.")
    if model.discounts and model.order < len(model.discounts):
        notes.append(f"No n-grams are left above order {model.order}: the order is {model.order}.")
    if model.added:
        notes.append(
            "n-grams added because others need them as contexts or to back off to, with unchanged probabilities: "
            f"{model.added}"
        )
    for text in texts:
        if text.blank:
            notes.append(f"{text.path}: blank lines left out: {text.blank}")
        if text.marked:
            notes.append(f"{text.path}: lines from which <s> and </s> were removed: {text.marked}")
        if text.unknown:
            notes.append(f"{text.path}: <unk>, counted as a word: {text.unknown}")
    return notes


def show_perplexity(console, model, dev) -> None:
    from rich.table import Table

    found = model.perplexity(read_each([dev]))
    table = Table(title=f"perplexity of {dev.path}", show_header=False)
    infinite = found.with_unknown == float("inf")
    rows = {
        "with unknown words": "infinite: the model has no <unk>" if infinite else f"{found.with_unknown:.2f}",
        "without unknown words": f"{found.without_unknown:.2f}",
        "sentences": f"{found.sentences:,}",
        "words": f"{found.words:,}",
        "unknown words": f"{found.unknown:,} ({found.unknown / found.words:.2%})",
    }
    for order, hits in enumerate(found.hits, start=1):
        rows[f"predicted by {order}-grams"] = f"{hits:,} ({hits / found.tokens:.1%})"
    for name, value in rows.items():
        table.add_row(name, value)
    console.print(table)
    if dev.blank:
        console.print(f"{dev.path}: blank lines left out: {dev.blank}")


def main(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("--help", "-h", "help"):
        print(as_called(__doc__.strip()))
        return 0 if arguments else 2
    with mistakes_as_sentences("make_lm.py"):
        run(arguments)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
