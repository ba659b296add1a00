"""No loss scale: what has 32 bits needs none."""

from __future__ import annotations

from poseidon_caffe.backend.protocols import LossScale

__all__ = ["ReferenceLossScale"]


class ReferenceLossScale:
    """`LossScaleOps` of backends whose activations are as wide as parameters."""

    def loss_scale(self) -> LossScale | None:
        """None."""
        return None
