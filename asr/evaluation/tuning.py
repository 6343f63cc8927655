"""The weights of a decoder, found on the dev split: emissions are computed once, decoded under many weights."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import hashlib
import io
import itertools
import json
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asr.errors import UserError
from asr.model.checkpoint import weights_digest
from asr.runtime.user_cache import keep
from asr.text.units import write_whole

if TYPE_CHECKING:
    from torch import Tensor

    from asr.data.checks import CheckedSplit
    from asr.model.checkpoint import Checkpoint
    from asr.model.network import Model

FOLDER = "decoder"
# utterances that are decoded at once
BATCH = 32
# settings of decoders that name files
FILES = ("lm", "lexicon")
WEIGHTS = ("lm_weight", "word_score")
# settings that are said when they are taken up
SHOWN = (*FILES, *WEIGHTS)
# where what an earlier tuning found is kept
PREVIOUS = ".previous"
log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Point:
    """How many errors there are under one pair of weights."""

    lm_weight: float
    word_score: float
    errors: int


def tuned_file(checkpoint: Checkpoint, decoder: str) -> Path:
    """Where the weights found for a decoder are kept: in the run's folder, or beside a model that has none."""
    home = checkpoint.run or (checkpoint.path if checkpoint.path.is_dir() else checkpoint.path.parent)
    return home / FOLDER / f"{decoder}.json"


def with_tuned(checkpoint: Checkpoint, settings: dict[str, Any], typed: Sequence[str]) -> dict[str, Any]:
    """The settings of a decoder, with those that were found for the run in place of defaults; what was `typed` stays.

    What is taken up is said in a line of the log. Raises UserError where the file that holds them is damaged, or names a file
    that is gone.
    """
    file = tuned_file(checkpoint, settings["name"])
    if not file.is_file():
        return settings
    try:
        found = json.loads(file.read_text(encoding="utf8"))["settings"]
        if not isinstance(found, dict) or found.get("name") != settings["name"]:
            raise ValueError("it holds no settings of this decoder")
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise UserError(f"{file} is damaged ({error}): tune the decoder again, or remove the file.") from None
    taken = {key: value for key, value in found.items() if key in settings and key not in typed}
    for key in FILES:
        named = taken.get(key)
        if isinstance(named, str) and named != "auto" and not Path(named).exists():
            raise UserError(f"{named}, which {file} names, is no longer there: give decoder.{key}=FILE, or tune again.")
    shown = ", ".join(f"{key}={value}" for key, value in taken.items() if key in SHOWN and value is not None)
    note = ""
    if "lm" in typed and found.get("lm") is not None and not same_file(found["lm"], settings.get("lm")):
        note = f"; they were tuned for lm={found['lm']}"
    log.info("%s of decoder=%s from %s%s", shown, settings["name"], file, note)
    return {**settings, **taken}


def tuned_weights(checkpoint: Checkpoint, settings: dict[str, Any], typed: Sequence[str]) -> dict[str, Any] | None:
    """The weights that `with_tuned` takes up, for `scores.json`: `settings` (their names), the `file`, and `other_lm`, the
    language model that they were tuned for where another one was typed; None if there are none.
    """
    file = tuned_file(checkpoint, settings["name"])
    if not file.is_file():
        return None
    found = json.loads(file.read_text(encoding="utf8"))["settings"]
    weights = [key for key in WEIGHTS if key in found and key in settings and key not in typed]
    if not weights:
        return None
    other = found.get("lm") if "lm" in typed else None
    is_other = other is not None and not same_file(other, settings.get("lm"))
    return {"file": str(file), "settings": weights, "other_lm": other if is_other else None}


def same_file(one: Any, other: Any) -> bool:
    """Whether two settings name the same file, or both name none."""
    return (
        one == other or bool(one and other) and Path(one).expanduser().resolve() == Path(other).expanduser().resolve()
    )


def search(
    errors: Callable[[float, float], int],
    lm_weights: Sequence[float],
    word_scores: Sequence[float],
    rounds: int,
    seen: Callable[[Point], None] = lambda point: None,
    words: bool = True,
) -> list[Point]:
    """All pairs of a grid, then `rounds` times the neighbours of the best pair at half the distance; in the order tried.

    errors: of (lm_weight, word_score). seen: is told each point. words: whether there is a score of words to search.
    """
    points: dict[tuple[float, float], Point] = {}

    def look(weight: float, score: float) -> None:
        # a language model's weight below zero would prefer what nobody says
        pair = (round(max(weight, 0.0), 4), round(score, 4))
        if pair not in points:
            points[pair] = Point(*pair, errors(*pair))
            seen(points[pair])

    for weight, score in itertools.product(lm_weights, word_scores):
        look(weight, score)
    steps = [spacing(lm_weights), spacing(word_scores)]
    for _ in range(rounds):
        steps = [step / 2 for step in steps]
        middle = best_of(list(points.values()))
        for across, along in itertools.product((-1, 0, 1), (-1, 0, 1) if words else (0,)):
            look(middle.lm_weight + across * steps[0], middle.word_score + along * steps[1])
    return list(points.values())


def spacing(values: Sequence[float]) -> float:
    """The smallest distance between two of the values; 1 where there is but one."""
    ordered = sorted(set(values))
    return min((b - a for a, b in zip(ordered, ordered[1:])), default=1.0)


def best_of(points: Sequence[Point]) -> Point:
    """The point with the fewest errors; of several, the one nearest to their middle, which is the safest choice."""
    fewest = min(point.errors for point in points)
    best = [point for point in points if point.errors == fewest]
    middle = [sum(getattr(point, axis) for point in best) / len(best) for axis in ("lm_weight", "word_score")]
    return min(best, key=lambda p: ((p.lm_weight - middle[0]) ** 2 + (p.word_score - middle[1]) ** 2, p.lm_weight))


def beyond(points: Sequence[Point], best: Point) -> list[str]:
    """A sentence for each axis where `best` is the least or the greatest of several values: better ones may lie further out."""
    sentences = []
    for axis, setting, floor in (("lm_weight", "lm_weights", 0.0), ("word_score", "word_scores", None)):
        value, tried = getattr(best, axis), sorted({getattr(point, axis) for point in points})
        # below a language model's weight of zero there is nothing to look for
        if len(tried) > 1 and value in (tried[0], tried[-1]) and value != floor:
            which = "least" if value == tried[0] else "greatest"
            sentences.append(
                f"{axis}={value:g} is the {which} that was tried: better ones may lie beyond, {setting}=[…] says which to try."
            )
    return sentences


def thinned(split: CheckedSplit, seconds: float) -> CheckedSplit:
    """A split of no more than so many seconds of speech: as much of every part of it."""
    keep = max(1, round(len(split.cuts) * min(1.0, seconds / max(split.seconds, 1e-9))))
    chosen = [index * len(split.cuts) // keep for index in range(keep)]
    parts = {
        part: [getattr(split, part)[index] for index in chosen] for part in ("cuts", "labels", "references", "frames")
    }
    return dataclasses.replace(split, **parts)


def emissions_of(model: Model, split: CheckedSplit, device: str, batch_frames: int) -> list[Tensor]:
    """The emissions (time, units) float32 of every utterance of a split, on the CPU, in the order of its cuts."""
    import torch

    from asr.data.batches import Utterances, evaluation_loader
    from asr.evaluation.evaluate import choose_device

    place = choose_device(device)
    model = model.to(place).eval()
    loader = evaluation_loader(Utterances(split.cuts, split.labels), split.frames, batch_frames)
    found: dict[int, Tensor] = {}
    with torch.inference_mode():
        for batch in loader:
            emissions, lengths = model(batch.waveforms.to(place), batch.samples.to(place))
            emissions = emissions.float().cpu()
            for row, index in enumerate(batch.indices.tolist()):
                found[index] = emissions[row, : int(lengths[row])].clone()
    return [found[index] for index in range(len(split.cuts))]


def cached_emissions(
    model: Model, split: CheckedSplit, corpus: str, device: str, batch_frames: int, cache: Path
) -> tuple[list[Tensor], Path | None]:
    """`emissions_of`, and the file below `cache` that they are kept in, which is named for the weights, the attention and the
    utterances; None where it cannot be written, which a warning says.

    Audio that was replaced since is another utterance, by the size and the time of change of its file. Raises UserError for
    audio that is not there.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file, save

    digest = hashlib.sha256((json.dumps(model.description, sort_keys=True) + weights_digest(model)).encode())
    for cut in split.cuts:
        digest.update(f"{cut.id} {cut.start} {cut.duration} {cut.recording.id} {cut.channel}\n".encode())
    for line in audio_stamps(split):
        digest.update(line)
    file = Path(cache) / "emissions" / f"{corpus}-{split.name}-{digest.hexdigest()[:16]}.safetensors"
    with contextlib.suppress(SafetensorError, OSError, KeyError):
        kept = load_file(file)
        return [kept[str(index)] for index in range(len(split.cuts))], file
    emissions = emissions_of(model, split, device, batch_frames)

    def write(path: Path) -> None:
        path.write_bytes(save({str(index): tensor for index, tensor in enumerate(emissions)}))

    written = keep(file, write, "The emissions", "They are computed again next time; cache=FOLDER names another place.")
    return emissions, file if written else None


def audio_stamps(split: CheckedSplit) -> Iterator[bytes]:
    """What tells whether the audio of a split is still the same, each source once: the size and the time of change of a file, the
    content of what is held in memory."""
    seen = set()
    for cut in split.cuts:
        for source in cut.recording.sources:
            if (source.type, source.source) in seen:
                continue
            seen.add((source.type, source.source))
            if source.type == "file":
                try:
                    status = Path(source.source).stat()
                except OSError as error:
                    raise UserError(f"{source.source}, audio of {cut.id}, cannot be read: {error.strerror}.") from None
                yield os.fsencode(f"{source.source} {status.st_size} {status.st_mtime_ns}\n")
            else:
                content = source.source if isinstance(source.source, bytes) else str(source.source).encode()
                yield hashlib.sha256(content).digest()


def decode_all(decoder, emissions: Sequence[Tensor]) -> list:
    """The best hypothesis of each utterance, in their order; those of like length are decoded together."""
    import torch
    from torch.nn.utils.rnn import pad_sequence

    order = sorted(range(len(emissions)), key=lambda index: len(emissions[index]))
    best: dict[int, Any] = {}
    for start in range(0, len(order), BATCH):
        indices = order[start : start + BATCH]
        padded = pad_sequence([emissions[index] for index in indices], batch_first=True)
        lengths = torch.tensor([len(emissions[index]) for index in indices])
        best |= {index: hypotheses[0] for index, hypotheses in zip(indices, decoder(padded, lengths))}
    return [best[index] for index in range(len(emissions))]


def write_tuned(file: Path, settings: dict[str, Any], points: Sequence[Point], facts: dict[str, Any]) -> list[Path]:
    """Writes `file` (settings with the best weights, and `facts`), and beside it the surface as .csv and .png.

    What an earlier tuning found stays as `<decoder>.previous.json`. Raises UserError if it cannot be written.
    """
    best = best_of(points)
    chosen = {**settings, "lm_weight": best.lm_weight, "word_score": best.word_score}
    content = {"settings": chosen, "errors": best.errors, **facts}
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(("lm_weight", "word_score", "errors"))
    writer.writerows(dataclasses.astuple(point) for point in points)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.is_file():
            file.replace(file.with_suffix(f"{PREVIOUS}.json"))
        write_whole(file.with_suffix(".csv"), table.getvalue().encode())
        draw_surface(points, facts["reference_length"], settings["name"], file.with_suffix(".png"))
        write_whole(file, (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode("utf8"))
    except OSError as error:
        raise UserError(f"{file} cannot be written: {error.strerror or error}.") from None
    return [file, file.with_suffix(".csv"), file.with_suffix(".png")]


def replaced(file: Path) -> str | None:
    """A sentence on what an earlier tuning found, which the next one replaces; None if there was none."""
    try:
        content = json.loads(file.read_text(encoding="utf8"))
        settings, rate = content["settings"], content["error_rate"]
        said = f"dev {content['metric'].upper()} {rate:.2%} with lm={settings.get('lm')}"
    except (OSError, ValueError, LookupError, TypeError, RecursionError, AttributeError):
        return None
    return f"replaces  {file}: {said}, kept as {file.with_suffix(f'{PREVIOUS}.json').name}"


def draw_surface(points: Sequence[Point], reference_length: int, name: str, png: Path) -> None:
    """Draws the error rate over both weights; the best pair is marked."""
    from matplotlib.figure import Figure

    from asr.evaluation.report.plots import save

    figure = Figure(figsize=(6.4, 4.8), layout="constrained")
    axes = figure.add_subplot()
    rates = [100 * point.errors / reference_length for point in points]
    weights, scores = ([getattr(point, axis) for point in points] for axis in ("lm_weight", "word_score"))
    if len(set(weights)) > 1 and len(set(scores)) > 1:
        axes.tricontour(weights, scores, rates, levels=12, colors="0.8", linewidths=0.8)
    shown = axes.scatter(weights, scores, c=rates, cmap="viridis", s=50)
    best = best_of(points)
    axes.plot(best.lm_weight, best.word_score, "o", mfc="none", mec="#D55E00", ms=14, mew=2)
    figure.colorbar(shown, label="error rate on dev in %")
    axes.set(xlabel="weight of the language model", ylabel="score of a word")
    axes.set_title(
        f"{name}: best {100 * best.errors / reference_length:.2f} % at {best.lm_weight:g}, {best.word_score:g}"
    )
    save(figure, png)
