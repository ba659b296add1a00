"""Feeding of nets whose kernels use the host's memory."""

from __future__ import annotations

from poseidon_caffe.backend.parcel import PixelRule

__all__ = ["ReferenceFeed"]


class ReferenceFeed:
    """`FeedOps` of both CPU backends: batches are where kernels want them."""

    def stage(self, rule: PixelRule, ahead: int) -> None:
        """Nothing stands between a batch and its blob."""
