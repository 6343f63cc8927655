"""Writes model cards, and updates their generated parts.

There is one generated part in the front matter and one in the text; both are enclosed in marks, and `evaluate.py` updates
them. Everything else, `license` included, is the user's. The opening mark has a digest, so that a part edited by hand is kept.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import yaml

from asr.errors import UserError
from asr.evaluation.card.facts import Facts, read_facts
from asr.evaluation.card.sections import metadata, sections
from asr.model.folder import CARD
from asr.runtime.files import write_whole

YAML_PART = re.compile(r"^# asr:begin (\w+)[^\n]*\n(.*?)^# asr:end\n", re.MULTILINE | re.DOTALL)
TEXT_PART = re.compile(r"^<!-- asr:begin (\w+)[^\n]*-->\n(.*?)^<!-- asr:end -->\n", re.MULTILINE | re.DOTALL)
FRONT = re.compile(r"\A---\n(.*?)^---\n", re.MULTILINE | re.DOTALL)


def update_card(folder: Path, evaluations: Path) -> list[str]:
    """Writes the card of a model folder, or updates its generated parts; returns remarks for the user.

    evaluations: the folder of `<split>/<attention>/scores.json`. Keeps a part that was edited by hand or lost its marks.
    """
    path = folder / CARD
    try:
        there = path.read_text(encoding="utf8") if path.exists() else None
        facts = read_facts(folder, evaluations)
        text, said = renewed(there, facts, str(path))
        if text != there:
            write_whole(path, text.encode("utf8"))
    except UserError as error:
        return [f"{path} was not updated: {error}"]
    except (OSError, UnicodeDecodeError) as error:
        return [f"{path} was not updated: {getattr(error, 'strerror', None) or 'it is not UTF-8'}."]
    return said


def renewed(there: str | None, facts: Facts, path: str) -> tuple[str, list[str]]:
    """(a card with updated generated parts, a sentence for each part that was kept). there: the existing card, if any."""
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
                "updated, move your lines out of that part and delete it, or delete the file."
            )
        else:
            text = text[: found.start()] + part + text[found.end() :]
    return text, said


def own_lines(card: str) -> list[str]:
    """The lines of a card that a person wrote, including those in an edited generated part."""
    for pattern in (YAML_PART, TEXT_PART):
        card = pattern.sub(lambda found: "" if digest(found[2]) == found[1] else found[2], card)
    return [line.strip() for line in card.splitlines() if line.strip(" -")]


def license_of(card: str) -> str | None:
    """The license in a card's front matter, or None. Raises UserError if that is not YAML."""
    front = front_matter(card)
    named = front.get("license_name") if front.get("license") == "other" else front.get("license")
    return named if isinstance(named, str) and named else None


def front_matter(card: str) -> dict[str, Any]:
    found = FRONT.match(card)
    try:
        content = yaml.safe_load(found[1]) if found else {}
    except yaml.YAMLError:
        raise UserError(f"{CARD}: its front matter, between the lines ---, is not YAML. Correct it.") from None
    return content if isinstance(content, dict) else {}


def with_license(card: str, name: str) -> str:
    """The card with `license: name` in its front matter, outside of the generated part."""
    found = FRONT.match(card)
    if not found:
        return f"---\nlicense: {name}\n---\n\n{card}"
    lines = [line for line in found[1].splitlines(keepends=True) if not re.match(r"license\s*:", line)]
    return f"---\n{''.join(lines)}license: {name}\n---\n{card[found.end() :]}"


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def yaml_part(facts: Facts) -> str:
    content = yaml.safe_dump(metadata(facts), sort_keys=False, allow_unicode=True)
    return f"# asr:begin {digest(content)} evaluate.py rewrites these lines; write yours below\n{content}# asr:end\n"


def text_part(facts: Facts, license: str | None) -> str:
    content = "\n\n".join(sections(facts, license)) + "\n"
    mark = f"<!-- asr:begin {digest(content)} evaluate.py rewrites these lines; write yours below -->"
    return f"{mark}\n{content}<!-- asr:end -->\n"
