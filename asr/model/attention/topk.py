"""Attention to each query's best keys only, in memory linear in time."""

from __future__ import annotations

from asr.model.attention.oracle_top import OracleTop


class TopK(OracleTop):
    """Each query attends to its `topk` highest keys only (Gupta et al. 2021, "Memory-efficient Transformers via Top-k
    Attention"): a way to fit long sequences into memory, not to save time.

    The arithmetic is that of `oracle_top`: queries are processed in chunks, and only their selected keys are kept for the
    backward pass. There it is an oracle to compare with; here it is the method itself.
    """

    name = "topk"
