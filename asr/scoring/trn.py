"""Scoring transcripts (trn) with NIST's markup, as sclite does: alternations, optional words, fragments."""

from __future__ import annotations

import re
from pathlib import Path

from asr.errors import UserError, nearest
from asr.scoring.glm import OTHERWISE, SPACE, GlobalMapping
from asr.scoring.rules import marked_up, score_items
from asr.scoring.score import UtteranceScore
from asr.text_files import read_lines


def read_trn(path: Path | str) -> dict[str, tuple[str, str]]:
    """(text, place such as "ref.trn, line 3") by utterance of a transcript file, `words (speaker-utterance)` in each line.

    Raises UserError naming file and line for a line without an identity, and for an identity that stands there twice.
    """
    path, found = Path(path), {}
    for number, line in enumerate(read_lines(path, OTHERWISE), start=1):
        if line.startswith(";;") or not line.strip(SPACE):
            continue
        place = f"{path}, line {number}"
        match = re.fullmatch(r"(.*)\(([^()]*)\)\s*", line)
        if match is None or not match[2].strip() or not re.search("[-_]", match[2]):
            raise UserError(f"{place}: a line ends with the utterance's identity in parentheses, (speaker-utterance).")
        identity = match[2].lower()
        if identity in found:
            raise UserError(f"{place}: the utterance {match[2]} stands there twice.")
        found[identity] = (match[1], place)
    if not found:
        raise UserError(f"{path} holds no utterance: a line is WORDS (speaker-utterance).")
    return found


def score_trn(
    reference: Path | str, hypothesis: Path | str, glm: Path | str | None = None
) -> tuple[list[UtteranceScore], list[str]]:
    """(scores, utterances without a hypothesis) of transcripts with sclite's markup, as `sclite -i spu_id -F -D`.

    With a GLM both are filtered by csrfilt.sh -dh -i trn before. Utterances without a hypothesis are not scored, as in
    sclite. Raises UserError naming file and line, also for a hypothesis of an utterance that the reference does not have.
    """
    mapping = GlobalMapping.read(glm) if glm is not None else None
    references, hypotheses = read_trn(reference), read_trn(hypothesis)
    rules = [mapping.rules("trn", purpose) if mapping else None for purpose in ("ref", "hyp")]
    scores = []
    for identity, (text, place) in hypotheses.items():
        if identity not in references:
            raise UserError(f"{place}: {reference} has no utterance {identity}: {nearest(identity, references)}.")
        said = marked_up(references[identity][0], rules[0], references[identity][1])
        heard = marked_up(text, rules[1], place)
        # sclite ends the speaker at the first hyphen, or at the first underscore if there is none
        speaker = identity.partition("-" if "-" in identity else "_")[0]
        scores.append(score_items(identity, said, heard, speaker, 0.0))
    return scores, [identity for identity in references if identity not in hypotheses]
