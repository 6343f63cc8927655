"""The model card: `README.md` of a model folder, as people and the Hugging Face Hub read it.

The card states only facts that lie in the folder: `model.json`, the header of the weights, the `scores.json` of its
evaluations."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
import math
import re
import shlex
import struct
import sys
from pathlib import Path
from typing import Any

import yaml

from asr.corpora import Corpus, corpora
from asr.errors import UserError
from asr.model_folder import CARD, DESCRIPTION, WEIGHTS
from asr.units import write_whole

SCORES = "scores.json"
# of a corpus that the user brought: its name says nothing to others
OWN = ("folder", "cuts", "kaldi", "nemo")
METRICS = {"wer": "Word error rate", "cer": "Character error rate", "per": "Phoneme error rate"}
LANGUAGES = {"english": "en"}  # spelled out by some of lhotse's recipes
# a path of this machine, at the start of a value or of one in a list
PATH = re.compile(r"(?:^|[\s,=:(\[{'\"|])(?:~|/|\.\.(?:/|$)|[A-Za-z]:[\\/])")
YAML_PART = re.compile(r"^# asr:begin (\w+)[^\n]*\n(.*?)^# asr:end\n", re.MULTILINE | re.DOTALL)
TEXT_PART = re.compile(r"^<!-- asr:begin (\w+)[^\n]*-->\n(.*?)^<!-- asr:end -->\n", re.MULTILINE | re.DOTALL)
FRONT = re.compile(r"\A---\n(.*?)^---\n", re.MULTILINE | re.DOTALL)


@dataclasses.dataclass
class Facts:
    """What a card is written from. scores: contents of `scores.json`; parameters: how many numbers the weights hold."""

    description: dict[str, Any]
    trained_on: dict[str, Any]
    units: dict[str, Any]
    scores: list[dict[str, Any]]
    parameters: int


def card_facts(corpus: Corpus, splits: dict[str, Any]) -> dict[str, Any]:
    """What a model's card tells of its data and cannot find elsewhere: kept in `trained_on`. splits: `CheckedSplit` by name."""
    versions = {name: importlib.metadata.version(name) for name in ("torch", "lhotse")}
    return {
        "speech": {name: {"utterances": len(split.cuts), "seconds": split.seconds} for name, split in splits.items()},
        "language": corpus.language,
        "incomplete": corpus.incomplete,
        "versions": {"python": sys.version.split()[0], **versions},
    }


def update_card(folder: Path, evaluations: Path) -> list[str]:
    """Writes the card of a model folder, or renews the generated parts of one; returns what the user should know.

    evaluations: the folder of `<split>/<attention>/scores.json`. Keeps a part that was edited by hand, or whose marks are gone.
    """
    path = folder / CARD
    try:
        there = path.read_text(encoding="utf8") if path.exists() else None
        facts = read_facts(folder, evaluations)
        text, said = renewed(there, facts, str(path))
        if text != there:
            write_whole(path, text.encode("utf8"))
    except (OSError, UnicodeDecodeError) as error:
        return [f"{path} was not updated: {getattr(error, 'strerror', None) or 'it is not UTF-8'}."]
    return said


def renewed(there: str | None, facts: Facts, path: str) -> tuple[str, list[str]]:
    """(the text of a card with its generated parts renewed, a sentence for each part that was kept). there: the card so far."""
    if there is None:
        body = text_part(facts, None)
        return f"---\n{yaml_part(facts)}---\n\n{body}", []
    said = []
    text = there
    for pattern, part, name in (
        (YAML_PART, yaml_part(facts), "front matter"),
        (TEXT_PART, text_part(facts, license_of(there)), "text"),
    ):
        found = pattern.search(text)
        if found is None:
            said.append(
                f"{path}: the {name} is your own (its asr:begin and asr:end marks are gone) and was not updated."
            )
        elif digest(found[2]) != found[1]:
            said.append(
                f"{path}: the {name} was edited between its asr:begin and asr:end marks and was not updated. To have it "
                "updated, move your lines out of the marks and remove the marks' part, or delete the file."
            )
        else:
            text = text[: found.start()] + part + text[found.end() :]
    return text, said


def license_of(card: str) -> str | None:
    """The license in a card's front matter; None if there is none."""
    front = front_matter(card)
    named = front.get("license_name") if front.get("license") == "other" else front.get("license")
    return named if isinstance(named, str) and named else None


def front_matter(card: str) -> dict[str, Any]:
    found = FRONT.match(card)
    try:
        content = yaml.safe_load(found[1]) if found else {}
    except yaml.YAMLError:
        raise UserError(f"{CARD}: its front matter, between the lines ---, is not YAML. Mend it.") from None
    return content if isinstance(content, dict) else {}


def with_license(card: str, name: str) -> str:
    """The card with `license: name` in its front matter, outside of what is generated."""
    found = FRONT.match(card)
    if not found:
        return f"---\nlicense: {name}\n---\n\n{card}"
    lines = [line for line in found[1].splitlines(keepends=True) if not re.match(r"license\s*:", line)]
    return f"---\n{''.join(lines)}license: {name}\n---\n{card[found.end() :]}"


def read_facts(folder: Path, evaluations: Path) -> Facts:
    """The facts of a model folder. Raises UserError if it has no description or its weights have no header."""
    description = read_json(folder / DESCRIPTION)
    units = read_json(folder / "units.json")
    trained_on = description.get("trained_on")
    paths = sorted(evaluations.glob(f"*/*/{SCORES}"))
    scores = [kept for path in paths if (kept := read_scores(path))]
    return Facts(
        description,
        trained_on if isinstance(trained_on, dict) else {},
        units,
        scores,
        count_parameters(folder / WEIGHTS),
    )


def read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf8"))
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): a model folder holds this file.") from None
    except (ValueError, RecursionError):
        raise UserError(f"{path} is not JSON: it is cut short or damaged. Take it from the model again.") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} holds a {type(content).__name__}, not an object. Take it from the model again.")
    return content


# what others may know of an evaluation; utterances, folders and the machine stay at home
KEPT = {
    "corpus": str, "split": str, "units": str, "attention": str, "metric": str, "error_rate": float, "interval": list,
    "reference_length": int, "utterances": int, "audio_seconds": float, "normalizer": str, "command": str,
    "trained_with": str, "attention_settings": dict, "decoder": dict, "incomplete": list,
    "wer": dict, "cer": dict, "per": dict,
}  # fmt: skip
NEEDED = ("corpus", "split", "attention", "metric", "error_rate", "interval", "utterances", "attention_settings")


def read_scores(path: Path) -> dict[str, Any] | None:
    """What a card tells of an evaluation, without paths of this machine; None for a file that is not of the form of ours."""
    try:
        data = read_json(path)
    except UserError:
        return None
    kept = {key: data[key] for key, kind in KEPT.items() if isinstance(data.get(key), kind)}
    rates = [kept.get("error_rate"), *kept.get("interval", ())]
    known = all(key in kept for key in NEEDED) and len(rates) == 3 and kept["metric"] in METRICS
    if not known or not all(isinstance(rate, float) and math.isfinite(rate) for rate in rates):
        return None
    return without_paths(kept)


def count_parameters(weights: Path) -> int:
    """How many numbers a safetensors file holds, from its header (huggingface.co/docs/safetensors: a length, then JSON)."""
    try:
        with open(weights, "rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(min(length, 100_000_000)))
        return sum(math.prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")
    except (OSError, ValueError, TypeError, KeyError, AttributeError, struct.error):
        raise UserError(f"{weights} holds no weights: the file is cut short or is not a model.") from None


def without_paths(value: Any) -> Any:
    """Plain data with `PATH` for every text, or argument of a command, that holds a path of this machine (`/…`, `~…`, `../…`)."""
    if isinstance(value, dict):
        return {
            key: command_without_paths(one) if key == "command" else without_paths(one) for key, one in value.items()
        }
    if isinstance(value, list):
        return [without_paths(one) for one in value]
    return "PATH" if isinstance(value, str) and PATH.search(value) else value


def command_without_paths(command: Any) -> Any:
    if not isinstance(command, str):
        return without_paths(command)
    try:
        words = shlex.split(command)
    except ValueError:
        return "PATH" if PATH.search(command) else command
    kept = []
    for place, word in enumerate(words):
        key, equals, text = word.partition("=")
        if place < 2 and not equals:
            word = Path(word).name  # python, and the program
        elif PATH.search(text if equals else word):
            word = f"{key}=PATH" if equals and not PATH.search(key) else "PATH"
        kept.append(word)
    return shlex.join(kept)


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def yaml_part(facts: Facts) -> str:
    content = yaml.safe_dump(metadata(facts), sort_keys=False, allow_unicode=True)
    return f"# asr:begin {digest(content)} evaluate.py rewrites these lines; write yours below\n{content}# asr:end\n"


def text_part(facts: Facts, license: str | None) -> str:
    blocks = [*about(facts), *data(facts), *model(facts), *scores(facts), *use(), *licence(license), *versions(facts)]
    content = "\n\n".join(blocks) + "\n"
    mark = f"<!-- asr:begin {digest(content)} evaluate.py rewrites these lines; write yours below -->"
    return f"{mark}\n{content}<!-- asr:end -->\n"


def metadata(facts: Facts) -> dict[str, Any]:
    """The front matter as the Hub reads it (huggingface.co/docs/hub/model-cards), without `license`, which is the user's."""
    corpus, attention = corpus_name(facts), facts.description["attention"]["name"]
    made = ["synthetic-speech"] if is_synthetic(corpus) else []
    language = language_code(facts.trained_on.get("language"))
    used = list(dict.fromkeys(score["metric"] for score in facts.scores))
    named = [corpus] if corpus and corpus not in OWN and not is_synthetic(corpus) else []
    return {
        "library_name": "asr",
        "pipeline_tag": "automatic-speech-recognition",
        "tags": ["speech", "ctc", f"attention-{attention}", *made],
        **({"language": [language]} if language else {}),
        **({"datasets": named} if named else {}),
        **({"metrics": used} if used else {}),
        **({"model-index": model_index(facts)} if facts.scores else {}),
    }


def model_index(facts: Facts) -> list[dict[str, Any]]:
    return [{"name": title(facts), "results": [result(score) for score in facts.scores]}]


def result(score: dict[str, Any]) -> dict[str, Any]:
    beside = {name: score[name]["error_rate"] for name in METRICS if has_rate(score.get(name))}
    rates = {score["metric"]: score["error_rate"], **beside}
    return {
        "task": {"type": "automatic-speech-recognition", "name": "Speech Recognition"},
        "dataset": {"type": score["corpus"], "name": corpus_title(score["corpus"]), "split": score["split"]},
        "metrics": [
            {"type": name, "value": round(100 * rate, 2), "name": f"{METRICS[name]} (%), attention {way(score)}"}
            for name, rate in rates.items()
        ],
    }


def has_rate(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("error_rate"), float) and math.isfinite(value["error_rate"])


def title(facts: Facts) -> str:
    return f"{facts.description['encoder']['name']}, {label(facts.description['attention'])} attention"


def label(attention: dict[str, Any]) -> str:
    return "-".join(str(value) for value in attention.values())


def way(score: dict[str, Any]) -> str:
    decoder = score.get("decoder", {}).get("name", "greedy")
    return score["attention"] + ("" if decoder == "greedy" else f", decoder {decoder}")


def about(facts: Facts) -> list[str]:
    return [
        f"# Speech recognizer: {title(facts)}",
        f"Writes down speech as {facts.units.get('name')}, "
        f"{facts.parameters / 1e6:.2f} million parameters, trained with asr.",
    ]


def data(facts: Facts) -> list[str]:
    corpus = corpus_name(facts)
    blocks = [
        "## Data",
        f"Trained on `{corpus}`." if corpus else "The folder does not say what the model was trained on.",
    ]
    if is_synthetic(corpus):
        blocks.append(
            "**The speech is synthetic**: it was made by a program (eSpeak NG), no person speaks in it. The error rates below "
            "say how well the model recognizes such speech, not people."
        )
    speech = facts.trained_on.get("speech")
    if isinstance(speech, dict) and speech:
        rows = [split_row(name, part) for name, part in speech.items()]
        blocks.append(table(("split", "utterances", "hours"), rows))
    told = facts.trained_on.get("corpus") if corpus else {}
    settings = without_paths({key: value for key, value in told.items() if value is not None})
    if settings:
        blocks.append("Settings of the corpus: " + settings_text(settings) + ".")
    blocks += [
        f"Not complete: {without_paths(sentence)}" for sentence in listed_texts(facts.trained_on.get("incomplete"))
    ]
    if isinstance(command := facts.trained_on.get("command"), str):
        blocks += ["Trained by", code(command_without_paths(command))]
    if isinstance(start := facts.trained_on.get("init_from"), str):
        blocks.append(f"Started from the weights of `{without_paths(start)}`; their data count too.")
    return blocks


def split_row(name: str, part: Any) -> tuple[str, str, str]:
    """A row of the table of splits; a stranger's model.json may hold anything."""
    utterances, seconds = (
        (part.get(key) for key in ("utterances", "seconds")) if isinstance(part, dict) else (None, None)
    )
    known = isinstance(utterances, int) and isinstance(seconds, (int, float))
    return (name, f"{utterances:,}", f"{seconds / 3600:.2f}") if known else (name, "unknown", "unknown")


def model(facts: Facts) -> list[str]:
    described = facts.description
    rows = [
        (part, f"`{described[part]['name']}`", settings_text({k: v for k, v in described[part].items() if k != "name"}))
        for part in ("attention", "encoder")
    ]
    rows.append(("features", "", settings_text(described["features"])))
    return ["## Attention and encoder", table(("part", "name", "settings"), rows)]


def scores(facts: Facts) -> list[str]:
    if not facts.scores:
        return ["## Scores", "None yet: `python evaluate.py checkpoint=FOLDER` adds them."]
    own = facts.trained_on.get("corpus")
    rows = [
        (
            corpus_title(score["corpus"]), score["split"], way(score), score["metric"].upper(),
            f"{score['error_rate']:.2%}", "{:.2%} to {:.2%}".format(*score["interval"]), f"{score['utterances']:,}",
        )
        for score in facts.scores
    ]  # fmt: skip
    headers = ("corpus", "split", "attention", "metric", "error rate", "95 % interval", "utterances")
    commands = "\n".join(repeating(score, own) for score in facts.scores)
    lacking = dict.fromkeys(sentence for score in facts.scores for sentence in listed_texts(score.get("incomplete")))
    return [
        "## Scores", table(headers, rows), *(f"Not complete: {sentence}" for sentence in lacking),
        "Repeat them by (FOLDER is where this model lies)", code(commands),
    ]  # fmt: skip


def repeating(score: dict[str, Any], own: Any) -> str:
    """The command that repeats an evaluation: as it was typed, if it was; the evaluation at the end of a training has none."""
    try:
        words = shlex.split(score.get("command", ""))
    except ValueError:
        words = []
    if len(words) > 1 and words[1] == "evaluate.py":
        dropped = ("checkpoint=", "cache=", "output=", "device=")
        return shlex.join(
            [*words[:2], "checkpoint=FOLDER", *(word for word in words[2:] if not word.startswith(dropped))]
        )
    other = [] if isinstance(own, dict) and own.get("name") == score["corpus"] else [f"corpus={score['corpus']}"]
    settings = score["attention_settings"]
    attention = [f"attention={settings.get('name')}", *(f"{k}={v}" for k, v in settings.items() if k != "name")]
    decoder = score.get("decoder", {}).get("name", "greedy")
    chosen = [] if decoder == "greedy" else [f"decoder={decoder}"]
    return shlex.join(
        ["python", "evaluate.py", "checkpoint=FOLDER", *other, f"split={score['split']}", *attention, *chosen]
    )


def use() -> list[str]:
    return [
        "## Use",
        code(
            "python scripts/share_model.py pull OWNER/NAME FOLDER   # if it lies on a hub\n"
            "python transcribe.py checkpoint=FOLDER some.wav other.flac"
        ),
        "The folder holds data, not code: loading it runs nothing.",
    ]


def licence(name: str | None) -> list[str]:
    missing = "None is stated. Until the model's owner states one (`license:` at the top of this file), ask before you use it."
    return ["## Licence", f"`{name}`" if name else missing]


def versions(facts: Facts) -> list[str]:
    known = facts.trained_on.get("versions")
    if not isinstance(known, dict) or not known:
        return []
    return ["## Versions", "Trained with " + ", ".join(f"{name} {version}" for name, version in known.items()) + "."]


def listed_texts(value: Any) -> list[str]:
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []


def corpus_name(facts: Facts) -> str | None:
    corpus = facts.trained_on.get("corpus")
    return corpus.get("name") if isinstance(corpus, dict) and isinstance(corpus.get("name"), str) else None


def is_synthetic(corpus: str | None) -> bool:
    return corpus in corpora.names() and corpora.get(corpus).synthetic


def corpus_title(corpus: str) -> str:
    return f"{corpus} (synthetic speech)" if is_synthetic(corpus) else corpus


def language_code(named: Any) -> str | None:
    """The code that the Hub lists a language by (ISO 639: en of en-us); None where the corpus's own word for it is none."""
    first = re.split("[-_]", str(named or "").lower())[0]
    return LANGUAGES.get(first, first if re.fullmatch("[a-z]{2,3}", first) else None)


def settings_text(settings: dict[str, Any]) -> str:
    return ", ".join(f"{key} {json.dumps(value, ensure_ascii=False)}" for key, value in settings.items()) or "none"


def table(headers: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [headers, ("---",) * len(headers), *rows]
    return "\n".join(
        "| " + " | ".join(str(cell).replace("|", r"\|").replace("\n", " ") for cell in line) + " |" for line in lines
    )


def code(text: str) -> str:
    return f"```sh\n{text}\n```"
