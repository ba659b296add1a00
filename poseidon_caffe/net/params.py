"""Parameters of a net: sharing by name, multipliers, and the slots solvers see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.errors import GraphError
from poseidon_caffe.layers.base import Layer
from poseidon_caffe.net.hooks import ParamSlot
from poseidon_caffe.schema.messages import ParamSpec

__all__ = ["ParamTable"]


@dataclass
class _Owner:
    """A learnable parameter while the net is being built."""

    name: str
    layer: int
    param_index: int
    blob: Blob
    lr_mult: float
    decay_mult: float
    has_lr: bool
    has_decay: bool
    users: list[int] = field(default_factory=list)


def _spec(layer: Layer, index: int) -> Any:
    specs = layer.param.param
    return specs[index] if index < len(specs) else ParamSpec()


class ParamTable:
    """Collects parameters layer by layer; `slots` describes the learnable ones.

    Attributes:
        blobs: every parameter of every layer, shared ones repeated.
        names: display name of each (shared name, or index within the layer).
        owner_of: index into `learnable` for each of `blobs`.
        learnable: one blob per distinct parameter, in Caffe's order.
    """

    def __init__(self) -> None:
        self.blobs: list[Blob] = []
        self.names: list[str] = []
        self.owner_of: list[int] = []
        self.learnable: list[Blob] = []
        self._owners: list[_Owner] = []
        self._by_name: dict[str, int] = {}

    def add_layer(self, index: int, layer: Layer) -> None:
        """Register a layer's parameters, sharing those named before.

        Raises:
            GraphError: more specs than parameters, or a bad sharing.
        """
        given, made = len(layer.param.param), len(layer.blobs)
        if given > made:
            msg = layer.describe(f"has {given} param specs but only {made} parameters")
            raise GraphError(msg)
        for i, blob in enumerate(layer.blobs):
            spec = _spec(layer, i)
            self.blobs.append(blob)
            self.names.append(spec.name or str(i))
            known = self._by_name.get(spec.name) if spec.name else None
            if known is None:
                self._own(index, i, layer, blob, spec)
            else:
                self._share(known, index, i, layer, spec)

    def _own(self, index: int, i: int, layer: Layer, blob: Blob, spec: Any) -> None:
        slot = len(self._owners)
        if spec.name:
            self._by_name[spec.name] = slot
        self.owner_of.append(slot)
        self.learnable.append(blob)
        self._owners.append(
            _Owner(
                name=spec.name or f"{layer.name}/{i}",
                layer=index,
                param_index=i,
                blob=blob,
                lr_mult=spec.lr_mult,
                decay_mult=spec.decay_mult,
                has_lr=spec.HasField("lr_mult"),
                has_decay=spec.HasField("decay_mult"),
                users=[index],
            )
        )

    def _share(self, slot: int, index: int, i: int, layer: Layer, spec: Any) -> None:
        owner, blob = self._owners[slot], layer.blobs[i]
        where = layer.describe(f'parameter {i} shares "{spec.name}"')
        permissive = spec.share_mode == 1
        if (
            (blob.count != owner.blob.count)
            if permissive
            else (blob.shape != owner.blob.shape)
        ):
            rule = "the same count" if permissive else "the same shape"
            msg = (
                f"{where}, which has shape {owner.blob.shape}, but its own shape is "
                f"{blob.shape}; shared parameters need {rule}"
            )
            raise GraphError(msg)
        for what, has in (("lr_mult", "has_lr"), ("decay_mult", "has_decay")):
            if not spec.HasField(what):
                continue
            value = getattr(spec, what)
            if getattr(owner, has) and getattr(owner, what) != value:
                msg = f"{where} with {what} {value}, not {getattr(owner, what)}"
                raise GraphError(msg)
            setattr(owner, what, value)
            setattr(owner, has, True)
        blob.share_data(owner.blob)
        blob.share_diff(owner.blob)
        owner.users.append(index)
        self.owner_of.append(slot)
        if blob.shape == owner.blob.shape:
            # One Blob object keeps versions and lazy zeros in step.
            layer.blobs[i] = owner.blob
            self.blobs[-1] = owner.blob

    def slots(self, layers: Sequence[Layer]) -> list[ParamSlot]:
        """The learnable parameters as others see them."""
        return [
            ParamSlot(
                index=k,
                name=owner.name,
                owner=owner.layer,
                param_index=owner.param_index,
                shape=owner.blob.shape,
                lr_mult=owner.lr_mult,
                decay_mult=owner.decay_mult,
                users=tuple(sorted(set(owner.users))),
                ready_after=min(owner.users),
                source=self._factor_source(layers[owner.layer], owner),
                statistics=layers[owner.layer].moves_statistics,
            )
            for k, owner in enumerate(self._owners)
        ]

    def _factor_source(self, layer: Layer, owner: _Owner) -> Any:
        """The layer itself when its weights' gradient is a product of factors.

        Weights of several layers keep it, so that others can tell why their slot has
        no factors.  Not so where only the bias has other uses: who takes the weights'
        gradient from the factors takes the bias's as well.
        """
        if owner.param_index != 0 or not layer.offers_factors:
            return None
        if len(set(owner.users)) > 1:
            return layer
        rest = {id(blob.data_storage) for blob in layer.blobs[1:]}
        unshared = all(
            len(other.users) == 1
            for other in self._owners
            if id(other.blob.data_storage) in rest
        )
        return layer if unshared else None
