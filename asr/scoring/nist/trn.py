"""Scores transcripts (trn) with NIST's markup, like sclite: alternations, optional words, fragments."""

from __future__ import annotations

import re
from pathlib import Path

from asr.errors import UserError, nearest
from asr.runtime.text_files import read_lines
from asr.scoring.missing import check_choice, refuse_missing
from asr.scoring.nist.glm import OTHERWISE, SPACE, GlobalMapping
from asr.scoring.nist.network import LOWER
from asr.scoring.nist.rules import marked_up, score_items
from asr.scoring.score import UtteranceScore


def read_trn(path: Path | str) -> dict[str, tuple[str, str]]:
    """(text, place such as "ref.trn, line 3") by utterance of a transcript file, `words (identity)` in each line.

    Identities are in lower case (ASCII), as sclite compares them. Raises UserError, naming file and line, for a line without
    an identity and for a repeated identity.
    """
    path, found = Path(path), {}
    for number, line in enumerate(read_lines(path, OTHERWISE), start=1):
        if line.startswith(";;") or not line.strip(SPACE):
            continue
        place = f"{path}, line {number}"
        match = re.fullmatch(r"(.*)\(([^()]*)\)\s*", line)
        if match is None or not match[2].strip():
            raise UserError(
                f"{place}: the line lacks the utterance's identity: end it with (speaker-utterance) or (utterance)."
            )
        identity = match[2].translate(LOWER)
        if identity in found:
            raise UserError(f"{place}: the utterance {match[2]} is in the file twice: remove one.")
        found[identity] = (match[1], place)
    if not found:
        raise UserError(f"{path} holds no utterance: expected lines WORDS (speaker-utterance) or WORDS (utterance).")
    return found


def score_trn(
    reference: Path | str, hypothesis: Path | str, glm: Path | str | None = None, missing: str = "deletions"
) -> tuple[list[UtteranceScore], list[str]]:
    """(scores, utterances without a hypothesis) of transcripts with sclite's markup, as `sclite -i spu_id -F -D`.

    With a GLM both are filtered first, as by csrfilt.sh -dh -i trn. missing: what to do with utterances without a hypothesis
    (`asr.scoring.missing`). Raises UserError, naming file and line, for malformed lines and for hypotheses of utterances that
    the reference lacks.
    """
    check_choice(missing)
    mapping = GlobalMapping.read(glm) if glm is not None else None
    references, hypotheses = read_trn(reference), read_trn(hypothesis)
    rules = [mapping.rules("trn", purpose) if mapping else None for purpose in ("ref", "hyp")]
    without = [identity for identity in references if identity not in hypotheses]
    refuse_missing(missing, without, "utterance", hypothesis)
    if missing == "deletions":
        hypotheses |= {identity: ("", str(hypothesis)) for identity in without}
    scores = []
    for identity, (text, place) in hypotheses.items():
        if identity not in references:
            raise UserError(f"{place}: {reference} has no utterance {identity}: {nearest(identity, references)}.")
        said = marked_up(references[identity][0], rules[0], references[identity][1])
        heard = marked_up(text, rules[1], place)
        scores.append(score_items(identity, said, heard, speaker_of(identity), 0.0))
    return scores, without


def speaker_of(identity: str) -> str:
    """The speaker of an identity: the part before the first hyphen, or before the first underscore, as in sclite.

    An identity with neither is itself the speaker; sclite scores it under an empty name.
    """
    return identity.partition("-" if "-" in identity else "_")[0] or identity
