"""NetWeights: a net's parameters to and from files and other nets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from poseidon_caffe.net import weights

if TYPE_CHECKING:
    from poseidon_caffe.net.net import Net

__all__ = ["NetWeights"]


class NetWeights:
    """The part of `Net` that deals with stored parameters."""

    @property
    def _whole(self) -> Net:
        return cast("Net", self)

    def copy_trained_from(self, source: Any) -> list[str]:
        """Load parameters by layer name from a file or a NetParameter.

        Returns:
            Names of source layers that this net does not have.

        Raises:
            WeightsError: listing every parameter that does not fit.
        """
        return weights.copy_trained(self._whole, source)

    def share_trained_layers_with(self, other: Net) -> None:
        """Use ``other``'s parameters (a test net uses the training net's)."""
        weights.share_trained(self._whole, other)

    def to_proto(self, *, write_diff: bool = False) -> Any:
        """The net with its parameters as a NetParameter."""
        return weights.to_proto(self._whole, write_diff=write_diff)

    def save(self, path: str | Path, *, write_diff: bool = False) -> None:
        """Write a .caffemodel, whole or not at all."""
        weights.save(self._whole, path, write_diff=write_diff)

    def save_hdf5(self, path: str | Path, *, write_diff: bool = False) -> None:
        """Write a .caffemodel.h5, whole or not at all."""
        weights.save_hdf5(self._whole, path, write_diff=write_diff)

    def load_hdf5(self, path: str | Path) -> list[str]:
        """Load parameters from an HDF5 file, whatever its name."""
        return weights.copy_hdf5(self._whole, str(path))
