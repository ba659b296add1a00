"""How a net may be run."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["NetOptions"]


@dataclass(frozen=True)
class NetOptions:
    """What may be done to a net for speed; none of it changes results.

    Attributes:
        fuse: run neighbouring layers as one where the blobs come out the same.
        share_memory: let blobs that are never alive together share memory; only
            outputs, data and parameters keep their values after a pass.
        prefetch: data layers read ahead in threads.
        forward_only: backward never comes (scoring), so nothing is kept for it.
        capture: record training steps where the backend gains by it (CUDA graphs).
    """

    fuse: bool = False
    share_memory: bool = False
    prefetch: bool = True
    forward_only: bool = False
    capture: bool = False
