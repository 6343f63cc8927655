"""Topologies: which outputs of the model spell a phone, frame by frame. One file plus `conf/topology/<name>.yaml` each."""

from __future__ import annotations

from asr.registry import Registry

topologies = Registry("asr.model.topologies", "topology")
