"""What a training takes from the run that init_from names: its units, and the weights that fit."""

from __future__ import annotations

from typing import Any

from asr.config.settings import plain
from asr.data.corpora import Corpus
from asr.errors import UserError, listed
from asr.model.checkpoint import Checkpoint
from asr.model.network import Model
from asr.text.units import Units, build_units


def choose_units(config, corpus: Corpus, other: Checkpoint | None) -> tuple[Units, str | None]:
    """The units to train, and what to tell the user about those of the checkpoint to start from.

    init_units=kept takes the checkpoint's units, fresh makes new ones from the training split, and auto keeps characters and
    pieces that can write all of it except for a share of data.max_dropped. For phonemes auto makes new ones, as they come with
    the pronunciations of the corpus's words. Raises UserError if units cannot be kept as asked.
    """
    settings, wanted = plain(config.units), config.init_units
    if settings.get("silence") == "auto" and config.head.name == "lfmmi":
        settings["silence"] = True

    def fresh() -> Units:
        return build_units(
            settings, (cut.supervisions[0] for cut in corpus.splits["train"]), corpus.lexicon, corpus.language
        )

    if other is None:
        if wanted != "auto":
            raise UserError(f"init_units={wanted} is about the units of another run: name that run with init_from=…")
        return fresh(), None
    if other.units.name != settings["name"]:
        if wanted == "kept":
            raise UserError(
                f"init_units=kept: {other.path} has units={other.units.name}, not units={settings['name']}. "
                f"Give units={other.units.name}, or init_units=fresh."
            )
        return fresh(), None
    if wanted == "fresh" or wanted == "auto" and settings["name"] == "phonemes":
        return fresh(), None
    said = what_cannot_be_written(corpus, other, config.data.max_dropped)
    if said is None:
        return other.units, f"units of {other.path}, as they are; init_units=fresh makes new ones"
    if wanted == "kept":
        raise UserError(f"init_units=kept: {said}. init_units=fresh makes new units and keeps the encoder.")
    return fresh(), f"{said}: new units; its encoder is kept"


def what_cannot_be_written(corpus: Corpus, other: Checkpoint, share: float) -> str | None:
    """A clause on what a checkpoint's units cannot write; None if at most a `share` of the training utterances needs it."""
    supervisions = [cut.supervisions[0] for cut in corpus.splits["train"]]
    lacking = [unwritable for unwritable in map(other.units.unwritable, supervisions) if unwritable]
    if len(lacking) <= share * len(supervisions):
        return None
    missing = sorted({unit for unwritable in lacking for unit in unwritable})
    kind = "character" if all(len(unit) == 1 for unit in missing) else "word or phoneme"
    named = f"{len(missing)} {kind}{'' if len(missing) == 1 else 's'}"
    return (
        f"{named} of the training text ({listed(missing)}), in {len(lacking)} of its {len(supervisions)} utterances, "
        f"{'is' if len(missing) == 1 else 'are'} not among the units of {other.path}"
    )


def initialize(model: Model, units: Units, other: Checkpoint | None) -> str | None:
    """Copies the weights of another checkpoint; returns what to tell the user about it.

    The head is copied if it is the same, with the same units in the same order. Weights that only this model's attention has
    start from scratch. Raises UserError if another part does not fit.
    """
    if other is None:
        return None
    weights, own = other.model.state_dict(), model.state_dict()
    fresh = [name for name in own if name not in weights or weights[name].shape != own[name].shape]
    same_head = without_loss_settings(other.model.description["head"]) == without_loss_settings(
        model.description["head"]
    )
    if other.units.symbols != units.symbols or not same_head:
        fresh = sorted({*fresh, *(name for name in own if name.startswith("head."))})
    attending = model.attention_weights()
    if any(not name.startswith("head.") and name not in attending for name in fresh):
        parts = [(part, other.model.description[part], model.description[part]) for part in ("features", "encoder")]
        settings = [
            f"{part}.{key} is {there.get(key)} there and {value} here"
            for part, there, here in parts
            for key, value in here.items()
            if there.get(key) != value
        ]
        raise UserError(
            f"The weights of {other.path} do not fit this encoder: {'; '.join(settings)}. Use the encoder it was trained with."
        )
    model.load_state_dict({**own, **{name: weights[name] for name in own if name not in fresh}})
    said = [f"weights of {other.path}"]
    if any(name.startswith("head.") for name in fresh):
        said.append("a new layer to other units" if same_head else f"a new head={model.description['head']['name']}")
    if attending.intersection(fresh):
        said.append(f"new weights of attention={model.attention_label()}")
    return ", with ".join(filter(None, [said[0], " and ".join(said[1:])]))


def without_loss_settings(head: dict[str, Any]) -> dict[str, Any]:
    """The description of a head with its loss's name alone: what training minimizes does not change what its outputs mean."""
    return {**head, "loss": (head.get("loss") or {}).get("name")}
