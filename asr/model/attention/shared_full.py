"""Full attention with shared queries and keys."""

from __future__ import annotations

from asr.model.attention.full import Full


class SharedFull(Full):
    """Full attention on one projection for queries and keys (Vyas et al. 2020, section 4.1, shared-full).

    The arithmetic is that of `full`: a position attends to itself as to any other, because the paper sets keys equal to
    queries and changes nothing else. (Reformer's ban on attending to oneself belongs to `lsh`.)
    """

    name = "shared_full"
    shared_qk = True
