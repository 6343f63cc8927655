"""A phone language model as a text file, which says what it is for and ends with its own digest.

    asr phone language model 1
    topology chain
    order 4
    units <blank> AA AE AH …
    contexts all
    <s>
     AH -2.302585092994046
     SIL -0.2231435513142097
    AH
     </s> -1.0986122886681098
     …
    sha256 8a1c…

A line without a space before it is a history, oldest phone first; those below it are what may follow, and the natural logarithm
of its probability. `<s>` is the place before a sentence, `</s>` its end.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from asr.errors import UserError
from asr.runtime.files import write_whole
from asr.text.phones.model import START, PhoneLm

FILE = "phone_lm.txt"
MAGIC, VERSION = "asr phone language model", 1
BEGIN, END = "<s>", "</s>"


def lines_of(lm: PhoneLm, symbols: Sequence[str]) -> str:
    """The content of the file. symbols: of the units."""
    head = [f"{MAGIC} {VERSION}", f"topology {lm.topology}", f"order {lm.order}", f"units {' '.join(symbols)}"]
    head.append("contexts all" if lm.contexts is None else f"contexts {','.join(lm.contexts)}")
    first = np.searchsorted(lm.sources, np.arange(len(lm.histories) + 1))
    phones, weights, ends = lm.phones.tolist(), lm.weights.tolist(), lm.ends.tolist()
    body = []
    for state, history in enumerate(lm.histories):
        body.append(" ".join(BEGIN if phone == START else symbols[phone] for phone in history))
        if ends[state] > -np.inf:
            body.append(f" {END} {ends[state]!r}")
        for arc in range(first[state], first[state + 1]):
            body.append(f" {symbols[phones[arc]]} {weights[arc]!r}")
    text = "\n".join([*head, *body, ""])
    return f"{text}sha256 {hashlib.sha256(text.encode('utf8')).hexdigest()}\n"


def digest_of(lm: PhoneLm, symbols: Sequence[str]) -> str:
    """The digest that ends the file: the same for the same model, whatever machine estimated it."""
    return lines_of(lm, symbols).split()[-1]


def write_phone_lm(path: Path, lm: PhoneLm, symbols: Sequence[str]) -> None:
    """Writes the file, whole or not at all. Raises OSError."""
    write_whole(Path(path), lines_of(lm, symbols).encode("utf8"))


def read_phone_lm(path: Path, symbols: Sequence[str]) -> PhoneLm:
    """Reads what `write_phone_lm` wrote.

    Raises UserError for a file that cannot be read, is cut short or changed, and for one of other units.
    """
    path = Path(path)
    lines = checked_lines(path)
    fields = dict(line.split(" ", 1) for line in lines[1:5] if " " in line)
    if list(fields) != ["topology", "order", "units", "contexts"] or fields["order"] not in ("2", "3", "4"):
        raise UserError(
            f"{path}: its first lines must give topology, order, units and contexts. Take it from the run again."
        )
    if fields["units"].split(" ") != list(symbols):
        raise UserError(
            f"{path} is a phone language model over other units ({len(fields['units'].split())} of them) than the model's "
            f"{len(symbols)}: it belongs to another model. Give the one of this model."
        )
    try:
        lm = parsed(lines[5:-1], list(symbols), int(fields["order"]))
    except (ValueError, KeyError, IndexError) as error:
        raise UserError(
            f"{path} holds a line that is neither a history nor a phone with its weight ({error}). Take it from the run again."
        ) from None
    contexts = None if fields["contexts"] == "all" else tuple(fields["contexts"].split(","))
    return dataclasses.replace(lm, topology=fields["topology"], contexts=contexts)


def checked_lines(path: Path) -> list[str]:
    """The lines of a file that is whole. Raises UserError otherwise."""
    try:
        text = path.read_bytes().decode("utf8")
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror}): it is saved with the model. Take it from there again."
        ) from None
    except UnicodeDecodeError:
        text = ""
    lines = text.splitlines()
    if not lines or not lines[0].startswith(MAGIC):
        raise UserError(
            f"{path} is not a phone language model: its first line is not {f'{MAGIC} {VERSION}'!r}. Give a run's phone_lm.txt."
        )
    if lines[0] != f"{MAGIC} {VERSION}":
        raise UserError(
            f"{path} is a phone language model of another version of asr ({lines[0]!r}, not {VERSION}). "
            "Use that version, or train again."
        )
    if not text.endswith("\n") or not lines[-1].startswith("sha256 "):
        raise UserError(f"{path} is cut short: its last line is not a digest. Take it from the run again.")
    body = text[: -len(lines[-1]) - 1]
    if lines[-1] != f"sha256 {hashlib.sha256(body.encode('utf8')).hexdigest()}":
        raise UserError(
            f"{path} was changed since it was written: its digest does not fit. Take it from the run again."
        )
    return lines


def parsed(lines: Sequence[str], symbols: list[str], order: int) -> PhoneLm:
    ids = {symbol: number for number, symbol in enumerate(symbols)}
    histories: list[tuple[int, ...]] = []
    ends: list[float] = []
    sources, phones, weights = [], [], []
    for line in lines:
        if not line.startswith(" "):
            histories.append(tuple(START if phone == BEGIN else ids[phone] for phone in line.split(" ")))
            ends.append(-np.inf)
            continue
        phone, weight = line[1:].split(" ")
        if phone == END:
            ends[-1] = float(weight)
        else:
            sources.append(len(histories) - 1)
            phones.append(ids[phone])
            weights.append(float(weight))
    if not histories or histories[0] != (START,) or (sources and min(sources) < 0):
        raise ValueError("the first history must be <s>")
    if len(set(histories)) < len(histories) or max(map(len, histories)) >= order:
        raise ValueError("a history is there twice, or too long for the order")
    if not all(-np.inf < weight <= 0 for weight in weights) or not all(end <= 0 for end in ends):
        raise ValueError("a weight is no logarithm of a probability")
    arcs = np.array([sources, phones], dtype=np.int64).reshape(2, -1)
    nothing = np.zeros(0, dtype=np.int64)
    states = tuple(histories)
    lm = PhoneLm(len(symbols), order, "any", states, arcs[0], arcs[1], nothing, np.array(weights), np.array(ends))
    targets = [lm.after(source, phone) for source, phone in zip(sources, phones)]
    if None in targets:
        raise ValueError("a phone leads to no history")
    return dataclasses.replace(lm, targets=np.array(targets, dtype=np.int64))
