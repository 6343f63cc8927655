"""Keeps tables and statistics of features in full precision, whatever the model's."""

from __future__ import annotations

import torch


class KeepsFloat32(torch.nn.Module):
    """A module whose own buffers keep their dtype when the model is cast to another."""

    def _apply(self, fn, recurse: bool = True):
        before = dict(self.named_buffers(recurse=False))
        super()._apply(fn, recurse)
        for name, buffer in list(self.named_buffers(recurse=False)):
            if buffer.dtype != before[name].dtype:
                setattr(self, name, before[name].to(buffer.device))
        return self
