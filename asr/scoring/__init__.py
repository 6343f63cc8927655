"""Scores hypotheses against references: alignments, the rates and intervals that sum them up, and files for people and tools."""

from __future__ import annotations

from asr.scoring.alignment import Alignment, Operation, align
from asr.scoring.files import EvaluationFacts, write_evaluation
from asr.scoring.score import Score, UtteranceScore, score_utterance, summarize

__all__ = [
    "Alignment",
    "EvaluationFacts",
    "Operation",
    "Score",
    "UtteranceScore",
    "align",
    "score_utterance",
    "summarize",
    "write_evaluation",
]
