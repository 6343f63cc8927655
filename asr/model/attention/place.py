"""Where in a network an attention stands."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Place:
    """What an attention may know of the network around it, for weights of its own and for what differs between layers.

    layer: index of its layer, from 0; it also seeds what the attention draws. layers: number of layers.
    heads, head_dim: of the queries, keys and values that it receives, (batch, heads, time, head_dim).
    dim: size of the encoder's hidden states.
    """

    layer: int
    layers: int
    heads: int
    head_dim: int
    dim: int
