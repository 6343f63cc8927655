"""Benchmarks speed and accuracy of the decoders at several beams, against plain flashlight and pyctcdecode: a Markdown table.

    python scripts/benchmark_decoding.py emissions FOLDER --checkpoint RUN [--split dev]       # computed once
    python scripts/benchmark_decoding.py simulate FOLDER [--units characters] [--sentences 100] [--noise 1.0]
    python scripts/benchmark_decoding.py run FOLDER [--lm lm.arpa] [--lm-weight 1.0] [--word-score 0.0] [--beams 10,50,250]
        [--decoders greedy,beam,lexicon,wfst,flashlight] [--pyctcdecode PYTHON [--pruning 25]] [--rounds 3] [--csv FILE]

All decode the same emissions, one utterance at a time, on one core; the fastest round counts, without loading. `flashlight` is
torchaudio's ctc_decoder, used as documented, with a space at the end of each spelling if the units have one. pyctcdecode needs
characters as units and numpy < 2, so it runs in an environment of its own, given by its Python:
    python3 -m venv ctc && ctc/bin/pip install pyctcdecode kenlm 'numpy<2'
A beam of n is beam_size=n for flashlight and pyctcdecode; for wfst it is beam=n/10 in natural logarithms.
`simulate` makes emissions without a model: sentences from the built-in corpus's grammar, one or two frames per unit, blanks in
between, and noise; and a trigram of other sentences from the same grammar. They compare decoders, and say nothing about models.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))
DECODERS = ("greedy", "beam", "lexicon", "wfst", "flashlight")
LM = "lm.arpa"


def write_problem(
    folder: Path, emissions: list[numpy.ndarray], references: list[str], seconds: float, units: Any
) -> None:
    """emissions: (time, units) of each utterance. seconds: of all audio."""
    folder.mkdir(parents=True, exist_ok=True)
    units.save(folder / "units")
    lengths = numpy.array([len(each) for each in emissions])
    numpy.savez(folder / "emissions.npz", emissions=numpy.concatenate(emissions), lengths=lengths)
    facts = {"references": references, "seconds": seconds, "symbols": units.symbols}
    (folder / "problem.json").write_text(json.dumps(facts, ensure_ascii=False), encoding="utf8")


def read_problem(folder: Path) -> tuple[list[numpy.ndarray], dict[str, Any]]:
    """(the emissions of each utterance, {"references", "seconds", "symbols"})."""
    with numpy.load(folder / "emissions.npz") as held:
        emissions = numpy.split(held["emissions"], numpy.cumsum(held["lengths"])[:-1])
    return emissions, json.loads((folder / "problem.json").read_text(encoding="utf8"))


def from_checkpoint(arguments: argparse.Namespace) -> None:
    from asr.evaluation.emissions import emissions_of
    from asr.evaluation.request import Request, load_split
    from asr.model.checkpoint import open_checkpoint

    checkpoint = open_checkpoint(arguments.checkpoint)
    request = Request(arguments.checkpoint, split=arguments.split, cache=arguments.cache)
    split, _, _ = load_split(checkpoint, request)
    emissions = [each.numpy() for each in emissions_of(checkpoint.model, split, request.batching)]
    references = [" ".join(checkpoint.units.words(cut.supervisions[0])) for cut in split.cuts]
    write_problem(arguments.folder, emissions, references, split.seconds, checkpoint.units)


def simulate(arguments: argparse.Namespace) -> None:
    import random

    from lhotse import SupervisionSegment

    from asr.data.corpora.spoken.sentences import Grammar, words
    from asr.text.ngrams import estimate, write_arpa
    from asr.text.units import units as kinds

    grammar, generator = Grammar(random.Random(1)), numpy.random.default_rng(1)
    drawn = [words(" ".join(grammar.sentence())) for _ in range(arguments.training + arguments.sentences)]
    training, references = drawn[: arguments.training], drawn[arguments.training :]
    arguments.folder.mkdir(parents=True, exist_ok=True)
    write_arpa(estimate([sentence.split() for sentence in training], order=3), arguments.folder / LM)
    supervisions = [SupervisionSegment("s", "r", 0.0, 1.0, text=sentence) for sentence in training]
    units = kinds.get(arguments.units).build(supervisions)
    emissions = [
        noisy_path(
            units.encode(SupervisionSegment("s", "r", 0.0, 1.0, text=sentence)), units, arguments.noise, generator
        )
        for sentence in references
    ]
    # 40 ms per frame
    write_problem(arguments.folder, emissions, references, 0.04 * sum(map(len, emissions)), units)


def noisy_path(ids: list[int], units: Any, noise: float, generator: numpy.random.Generator) -> numpy.ndarray:
    """(time, units) float32: noisy log-probabilities, highest along a random path of the units."""
    path = [0]
    for unit in ids:
        path += [unit] * int(generator.integers(1, 3)) + [0] * int(generator.integers(1, 3))
    scores = generator.normal(0.0, noise, (len(path), len(units.symbols)))
    scores[numpy.arange(len(path)), path] += 4.0
    scores[:, 0] += 1.0
    return (scores - numpy.log(numpy.exp(scores).sum(axis=1, keepdims=True))).astype(numpy.float32)


def fastest(
    decode: Callable[[numpy.ndarray], Any], emissions: list[numpy.ndarray], rounds: int
) -> tuple[float, list[Any]]:
    """(seconds of the fastest round, the results)."""
    times, found = [], []
    for _ in range(rounds):
        started = time.perf_counter()
        found = [decode(each) for each in emissions]
        times.append(time.perf_counter() - started)
    return min(times), found


def ours(name: str, beam: int, arguments: argparse.Namespace, units: Any) -> Callable[[numpy.ndarray], str]:
    import torch

    from asr.inference.decoders import decoders

    settings: dict[str, Any] = {"name": name}
    if name in ("lexicon", "wfst"):
        settings |= {"lm": arguments.lm, "lm_weight": arguments.lm_weight, "word_score": arguments.word_score}
        settings |= {"out_of_vocabulary": "skip", "lexicon": arguments.lexicon}
    if name in ("beam", "lexicon"):
        settings["beam_size"] = beam
    if name == "wfst":
        settings |= {"beam": beam / 10, "cache": str(arguments.folder / "graphs")}
    decoder = decoders.create(settings).bind(units)

    def decode(emissions: numpy.ndarray) -> str:
        best = decoder(torch.from_numpy(emissions)[None], torch.tensor([len(emissions)]))[0][0]
        return " ".join(best.transcript if decoder.gives_words else units.decode(best.ids))

    return decode


def plain_flashlight(beam: int, arguments: argparse.Namespace, units: Any) -> Callable[[numpy.ndarray], str]:
    """torchaudio's ctc_decoder, with the same words, spellings and weights as ours."""
    import torch
    from torchaudio.models.decoder import ctc_decoder

    from asr.inference.decoders.kenlm import model_words
    from asr.inference.decoders.spellings import spell

    spellings = spell(units, model_words(arguments.lm), arguments.lexicon, "skip")
    end = [] if spellings.separator is None or not spellings.is_space else [units.symbols[spellings.separator]]
    lexicon = arguments.folder / "flashlight.txt"
    lexicon.write_text(
        "".join(
            f"{word} {' '.join([*(units.symbols[unit] for unit in spelling), *end])}\n"
            for word, each in spellings.words.items()
            for spelling in each
        ),
        encoding="utf8",
    )
    silence = units.symbols[0 if spellings.separator is None else spellings.separator]
    decoder = ctc_decoder(
        str(lexicon), list(units.symbols), arguments.lm, beam_size=beam, beam_threshold=25.0,
        lm_weight=arguments.lm_weight * math.log(10), word_score=arguments.word_score,
        blank_token=units.symbols[0], sil_token=silence, unk_word="<unk>",
    )  # fmt: skip
    return lambda emissions: " ".join(decoder(torch.from_numpy(emissions)[None])[0][0].words)


def contestant(arguments: argparse.Namespace) -> None:
    """Runs in pyctcdecode's own environment; prints {"seconds", "found"} as JSON."""
    from pyctcdecode import build_ctcdecoder

    emissions, facts = read_problem(arguments.folder)
    labels = ["", *(" " if symbol == "▁" else symbol for symbol in facts["symbols"][1:])]
    vocabulary = json.loads((arguments.folder / "vocabulary.json").read_text(encoding="utf8"))
    decoder = build_ctcdecoder(labels, arguments.lm, vocabulary, alpha=arguments.lm_weight, beta=arguments.word_score)
    options = {"beam_width": arguments.beam}
    if arguments.pruning is not None:
        options |= {"beam_prune_logp": -arguments.pruning, "token_min_logp": -arguments.pruning}
    seconds, found = fastest(lambda each: decoder.decode(each, **options), emissions, arguments.rounds)
    print(json.dumps({"seconds": seconds, "found": found}))


def pyctcdecode(beam: int, arguments: argparse.Namespace) -> tuple[float, list[str]]:
    from asr.errors import UserError
    from asr.inference.decoders.kenlm import model_words

    (arguments.folder / "vocabulary.json").write_text(json.dumps(model_words(arguments.lm)), encoding="utf8")
    command = [
        arguments.pyctcdecode,
        __file__,
        "contestant",
        str(arguments.folder),
        "--lm",
        arguments.lm,
        "--beam",
        str(beam),
    ]
    command += ["--lm-weight", str(arguments.lm_weight), "--word-score", str(arguments.word_score)]
    if arguments.pruning is not None:
        command += ["--pruning", str(arguments.pruning)]
    done = subprocess.run([*command, "--rounds", str(arguments.rounds)], capture_output=True, text=True)
    if done.returncode:
        raise UserError(
            f"pyctcdecode failed in {arguments.pyctcdecode}: {(done.stderr.strip() or '?').splitlines()[-1]} Check that "
            "environment, or leave --pyctcdecode out."
        )
    answer = json.loads(done.stdout.splitlines()[-1])
    return answer["seconds"], answer["found"]


def run(arguments: argparse.Namespace) -> None:
    import torch

    from asr.scoring import align
    from asr.text.units import load_units

    torch.set_num_threads(1)
    arguments.lm = arguments.lm or str(arguments.folder / LM)
    emissions, facts = read_problem(arguments.folder)
    units = load_units(arguments.folder / "units")
    rows = []
    chosen = [*arguments.decoders.split(","), *(["pyctcdecode"] if arguments.pyctcdecode else [])]
    for name in chosen:
        if name == "pyctcdecode" and units.name != "characters":
            print("pyctcdecode is left out, because it needs characters as units.", file=sys.stderr)
            continue
        if name in ("greedy", "beam") and units.metric == "per":
            print(f"{name} is left out, because it finds no words in phonemes.", file=sys.stderr)
            continue
        for beam in [0] if name == "greedy" else map(int, arguments.beams.split(",")):
            if name == "pyctcdecode":
                seconds, found = pyctcdecode(beam, arguments)
            else:
                make = plain_flashlight if name == "flashlight" else lambda *more, name=name: ours(name, *more)
                seconds, found = fastest(make(beam, arguments, units), emissions, arguments.rounds)
            errors = sum(align(ref.split(), hyp.split()).errors for ref, hyp in zip(facts["references"], found))
            words = sum(len(reference.split()) for reference in facts["references"])
            rows.append([name, beam or "", round(facts["seconds"] / seconds, 1), round(100 * errors / words, 2)])
            print("| " + " | ".join(map(str, rows[-1])) + " |", file=sys.stderr)
    header = ["decoder", "beam", "times real time", "WER %"]
    print("| " + " | ".join(header) + " |\n|---|---|---|---|")
    for row in rows:
        print("| " + " | ".join(map(str, row)) + " |")
    print(
        f"\n{len(emissions)} utterances, {facts['seconds']:.0f} s of audio, {sum(map(len, emissions))} frames; {units.name}."
    )
    if arguments.csv:
        with open(arguments.csv, "w", newline="", encoding="utf8") as file:
            csv.writer(file).writerows([header, *rows])


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = top.add_subparsers(dest="command", required=True)
    computed = commands.add_parser("emissions")
    computed.add_argument("--checkpoint", required=True)
    computed.add_argument("--split", default="dev")
    computed.add_argument("--cache", default=".cache")
    simulated = commands.add_parser("simulate")
    simulated.add_argument("--units", default="characters", choices=["characters", "phonemes", "bpe"])
    simulated.add_argument("--sentences", type=int, default=100)
    simulated.add_argument("--training", type=int, default=20000, help="sentences of the language model")
    simulated.add_argument("--noise", type=float, default=1.0, help="standard deviation of the scores before softmax")
    timed = commands.add_parser("run")
    timed.add_argument("--decoders", default=",".join(DECODERS))
    timed.add_argument("--beams", default="10,50,250")
    timed.add_argument("--lexicon", default="auto")
    timed.add_argument("--pyctcdecode", help="the Python of an environment with pyctcdecode")
    timed.add_argument("--csv")
    alone = commands.add_parser("contestant")
    alone.add_argument("--beam", type=int, required=True)
    for each in (computed, simulated, timed, alone):
        each.add_argument("folder", type=Path)
    for each in (timed, alone):
        each.add_argument("--lm", help=f"an ARPA file; by default {LM} in the folder")
        each.add_argument("--lm-weight", type=float, default=1.0)
        each.add_argument("--word-score", type=float, default=0.0)
        each.add_argument("--rounds", type=int, default=3)
        each.add_argument(
            "--pruning",
            type=float,
            help="pyctcdecode's thresholds for beams and units, natural logarithms; by default its own",
        )
    return top


def main() -> None:
    arguments = parser().parse_args()
    {"emissions": from_checkpoint, "simulate": simulate, "run": run, "contestant": contestant}[arguments.command](
        arguments
    )


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1] == "contestant":
        main()
    else:
        from asr.cli.command import mistakes_as_sentences

        with mistakes_as_sentences(Path(__file__).name):
            main()
