"""The position of an attention in its network."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Place:
    """What an attention may know about the network around it: it sizes its weights, and tells layers apart.

    layer: index of its layer, from 0; also the seed of its random draws. layers: number of layers.
    heads, head_dim: of the queries, keys and values it receives, (batch, heads, time, head_dim).
    dim: size of the encoder's hidden states.
    """

    layer: int
    layers: int
    heads: int
    head_dim: int
    dim: int
