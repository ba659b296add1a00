"""Where others may watch a net run: parameter slots and the observer Protocol."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from poseidon_caffe.types import Array, Shape

__all__ = ["DONE", "Event", "FactorSource", "NetObserver", "NullObserver", "ParamSlot"]


class Event(Protocol):
    """A point in the backend's work that another thread may wait for."""

    def wait(self) -> None:
        """Return once everything before the event has been computed."""


class _Done:
    """An event that has happened already: the CPU's."""

    def wait(self) -> None:
        """Return at once."""


DONE = _Done()


class FactorSource(Protocol):
    """A layer whose weight gradient is a product of two small matrices.

    Attributes:
        defer_gradient: leave the gradients of weights and bias alone in backward;
            whoever sets it makes them from the factors.  Not for shared weights.
    """

    defer_gradient: bool

    def factors(self) -> tuple[Array, Array] | None:
        """(top diff (M, N), bottom data (M, K)), live until its next forward.

        Where blobs share memory, only inside ``grad_ready`` and ``factors_ready``.
        """


@dataclass(frozen=True)
class ParamSlot:
    """One learnable parameter of a net, as the solver and a cluster see it.

    Attributes:
        index: position in ``net.learnable``.
        name: ``layer/i`` or the shared name.
        owner: index of the layer that owns it.
        param_index: which of the owner's blobs it is.
        shape: axis lengths.
        lr_mult: factor on the learning rate.
        decay_mult: factor on the weight decay.
        users: indices of all layers that use it, ascending.
        ready_after: layer whose backward completes the gradient (lowest user).
        source: offers factors instead of a dense gradient, of the bias too (which
            it shares with nobody), or None.
        statistics: running statistics (BatchNorm), which no rule but every forward
            changes; workers average them.
        fused_into: layer that reads the values too, as it does a user's work; or None.
    """

    index: int
    name: str
    owner: int
    param_index: int
    shape: Shape
    lr_mult: float
    decay_mult: float
    users: tuple[int, ...]
    ready_after: int
    source: FactorSource | None = None
    statistics: bool = False
    fused_into: int | None = None

    @property
    def readers(self) -> tuple[int, ...]:
        """Indices of all layers whose forward reads the values, ascending."""
        if self.fused_into is None:
            return self.users
        return tuple(sorted({*self.users, self.fused_into}))

    def factors(self) -> tuple[Array, Array] | None:
        """(top diff, bottom data) when the gradient is their product, else None."""
        if self.source is None or len(self.users) > 1:
            return None
        return self.source.factors()


class NetObserver(Protocol):
    """Told what the net does in `Net.forward_backward`.

    Gradients are spoken of in the last of ``iter_size`` passes only, but waiting
    for values comes in every pass: the first one of an iteration needs them too.
    """

    def before_forward(self, layer: int) -> None:
        """Called before each layer's forward; may block until its slots are fresh."""

    def grad_ready(self, slot: ParamSlot, event: Event) -> None:
        """The slot's gradient of this iteration is complete once ``event`` is.

        On a device: for what is given to its compute stream, or waits for that, from
        then on; the host would have to wait for the stream itself.

        Called once for every slot, from the last layer down to the first; for
        frozen slots and statistics too.  Nothing reads the slot's values any more
        until the layer's next forward: they may be overwritten from now on, by any
        thread, if the blob's ``touch`` is called before that forward.
        """

    def factors_ready(self, slot: ParamSlot) -> None:
        """The slot's factors of one of the earlier passes are there, for now.

        Called only for slots with a ``source``, in all but the last of ``iter_size``
        passes; of the last one `grad_ready` tells.
        """

    def backward_done(self) -> None:
        """The whole backward pass has been issued."""


class NullObserver:
    """Does nothing: one process."""

    def before_forward(self, layer: int) -> None:
        """Nothing to wait for."""

    def grad_ready(self, slot: ParamSlot, event: Event) -> None:
        """Nobody to tell."""

    def factors_ready(self, slot: ParamSlot) -> None:
        """Nobody to tell."""

    def backward_done(self) -> None:
        """Nothing to do."""
