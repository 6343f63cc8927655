"""What a model card says: the metadata of its front matter and the sections of its text, from facts alone."""

from __future__ import annotations

import json
import math
import re
import shlex
from typing import Any

from asr.data.corpora import corpora
from asr.evaluation.card.facts import METRICS, Facts, command_without_paths, without_paths

# of a corpus that the user brought: its name says nothing to others
OWN = ("folder", "cuts", "kaldi", "nemo")
LANGUAGES = {"english": "en"}  # spelled out by some of lhotse's recipes


def sections(facts: Facts, license: str | None) -> list[str]:
    """The blocks of the text, in Markdown. license: as the front matter states it."""
    return [*about(facts), *data(facts), *model(facts), *scores(facts), *use(), *licence(license), *versions(facts)]


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
    decoder = str(score.get("decoder", {}).get("name", "greedy"))
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
    decoder = str(score.get("decoder", {}).get("name", "greedy"))
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
