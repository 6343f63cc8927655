"""Attention to every query's best keys only, in memory linear in time."""

from __future__ import annotations

from asr.model.attention.oracle_top import OracleTop


class TopK(OracleTop):
    """Every query's `topk` highest keys and nothing else (Gupta et al. 2021, "Memory-efficient Transformers via Top-k
    Attention"): a way to fit long sequences into memory, not to save time.

    The arithmetic is that of `oracle_top`: queries go in chunks, and only their selected keys are kept for the backward pass.
    The paper of the oracle asks what the best keys are worth; this is the method that attends to them.
    """

    name = "topk"
