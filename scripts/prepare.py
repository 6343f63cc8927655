"""Prepares a corpus: python scripts/prepare.py CORPUS [SETTING=VALUE ...] [cache=FOLDER] [workers=N]"""

from __future__ import annotations

import dataclasses
import os
import sys
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # a file of the checkout, which need not be installed
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from asr.cli.command import mistakes_as_sentences  # noqa: E402
from asr.config.comments import opening  # noqa: E402
from asr.config.comments import settings_of as comments_of  # noqa: E402
from asr.config.overrides import parted  # noqa: E402
from asr.config.settings import CONF  # noqa: E402
from asr.data.corpora import Corpus, corpora  # noqa: E402
from asr.data.corpora.preparing.typed import parse, settings_of  # noqa: E402
from asr.data.corpora.preparing.unusable import kinds_of  # noqa: E402
from asr.errors import UserError, nearest  # noqa: E402
from asr.runtime.called import as_called  # noqa: E402
from asr.runtime.processors import processors  # noqa: E402

# settings of this command besides the corpus's own
OWN = {"cache": (str, ".cache"), "workers": (int, processors())}


def parse_arguments(arguments: list[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(settings of the corpus with its name, own settings) from the command line."""
    if "=" in arguments[0]:
        raise UserError(
            f"The first argument is {arguments[0]}, not a corpus: name one of {', '.join(corpora.names())}."
        )
    accepted = settings_of(arguments[0]) | OWN
    chosen = {}
    for argument in arguments[1:]:
        key, equals, text = parted(argument)
        if key.startswith("--"):
            # --allow-missing is allow_missing=true
            key = key[2:].replace("-", "_")
            if not equals and accepted.get(key, (None,))[0] is bool:
                equals, text = "=", "true"
        if not equals:
            raise UserError(f"{argument!r} is not of the form setting=value: {nearest(key, accepted)}.")
        if key not in accepted:
            raise UserError(f"The corpus {arguments[0]} takes no setting {key!r}: {nearest(key, accepted)}.")
        chosen[key] = parse(text, accepted[key][0], key)
    for key, (_, default) in accepted.items():
        if default is dataclasses.MISSING and key not in chosen:
            raise UserError(f"The corpus {arguments[0]} needs the setting {key}: add {key}=...")
    own = {key: chosen.pop(key, default) for key, (_, default) in OWN.items()}
    return {"name": arguments[0]} | chosen, own


def show_help(only: str | None = None) -> None:
    """Prints the settings of all corpora, or of one, with the comments of their files in `conf/`."""
    lines = [f"{__doc__}\n\nThe corpora and their settings, with defaults:"]
    for name in [only] if only else corpora.names():
        text = (CONF / "corpus" / f"{name}.yaml").read_text(encoding="utf8")
        about = [line.removeprefix("#").removeprefix(" ") for line in opening(text)]
        described = {one.key: one.described for one in comments_of(text)}
        lines += [f"\n  {name}", *(f"    {line}" for line in about)]
        for key, (_, default) in settings_of(name).items():
            value = "(needed)" if default is dataclasses.MISSING else "null" if default is None else default
            shown = f"{key}={str(value).lower() if isinstance(value, bool) else value}"
            lines.append(f"      {shown:<26} {described.get(key, '')}".rstrip())
    lines.append("\nA true-or-false setting can also be a flag: --allow-missing is allow_missing=true.")
    lines.append(f"For every corpus: cache={OWN['cache'][1]} (where prepared corpora go), workers={OWN['workers'][1]}")
    print(as_called("\n".join(lines)), flush=True)


def show(corpus: Corpus) -> None:
    """Prints the splits, then what was dropped and what was left out, by reason, and where the audio is."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table(title=f"{corpus.name}, {corpus.sample_rate} Hz")
    for column in ("split", "utterances", "minutes", "average s", "longest s", "speakers"):
        table.add_column(column, justify="left" if column == "split" else "right")
    for split, cuts in corpus.splits.items():
        durations = [cut.duration for cut in cuts]
        speakers = {cut.supervisions[0].speaker for cut in cuts}
        average = sum(durations) / len(durations) if durations else 0.0
        values = (sum(durations) / 60, average, max(durations, default=0.0))
        table.add_row(split, str(len(durations)), *(f"{value:.2f}" for value in values), str(len(speakers)))
    console.print(table)
    show_reasons("unusable, and dropped", corpus.dropped, console)
    show_reasons("left out on purpose", corpus.left_out, console)
    if not corpus.dropped:
        console.print("Nothing was dropped.")
    elif corpus.prepared_in is not None:
        console.print(
            f"Once these files are repaired, delete {corpus.prepared_in} and prepare the corpus again.",
            soft_wrap=True,
        )
    known = corpus.pronunciations
    if known:
        line = f"Lexicon: {known['words']:,} words, {len(known['espeak']):,} of them pronounced by eSpeak"
        line += f" (such as {', '.join(known['espeak'][:5])})" if known["espeak"] else ""
        if known["unpronounced"]:
            line += f"; {len(known['unpronounced']):,} without pronunciation ({', '.join(known['unpronounced'][:5])})"
        console.print(f"{line}; corpus.json lists all of them.", soft_wrap=True)
    for sentence in corpus.incomplete:
        console.print(f"Not complete: {sentence.rstrip('.')}.", soft_wrap=True)
    sources = [source for cuts in corpus.splits.values() for cut in cuts for source in cut.recording.sources]
    folders = {os.path.dirname(os.path.abspath(source.source)) for source in sources if source.type == "file"}
    if folders:
        console.print(f"The audio is in {os.path.commonpath(folders)}", soft_wrap=True)


def show_reasons(title: str, rows: list[tuple[str, str]], console) -> None:
    """Prints the count of each reason in (utterance, reason), and its first utterance with details."""
    from rich.markup import escape
    from rich.table import Table

    if not rows:
        return
    reasons = Table(title=title)
    reasons.add_column("reason")
    reasons.add_column("count", justify="right")
    reasons.add_column("such as", overflow="fold")
    first: dict[str, str] = {}
    for utterance, reason in rows:
        kind, colon, detail = reason.partition(":")
        first.setdefault(kind, utterance + colon + detail)
    for kind, count in kinds_of(rows).most_common():
        reasons.add_row(escape(kind), str(count), escape(first[kind]))
    console.print(reasons)


def main(arguments: list[str]) -> int:
    with mistakes_as_sentences("prepare.py"):
        if not arguments or {"--help", "-h", "help"} & set(arguments):
            named = [argument for argument in arguments if argument in corpora.names()]
            show_help(named[0] if named else None)
            return 0 if arguments else 2
        settings, own = parse_arguments(arguments)
        try:
            corpus = corpora.create(settings).load(Path(own["cache"]).expanduser(), own["workers"])
        except KeyboardInterrupt:
            print(
                "Interrupted. Run it again to continue: audio that is converted already is used, the rest is made again.",
                file=sys.stderr,
            )
            return 130
        show(corpus)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
