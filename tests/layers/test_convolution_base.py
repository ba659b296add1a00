"""What Convolution and Deconvolution share."""

from __future__ import annotations

import pytest

from poseidon_caffe.errors import ShapeError
from poseidon_caffe.layers.convolution_base import ConvolutionBase
from poseidon_caffe.layers.registry import known_types, layer_class
from tests.layers.harness import build

BOTH = ["Convolution", "Deconvolution"]


def test_the_base_is_no_type():
    kinds = [name for name in known_types() if issubclass(layer_class(name),
             ConvolutionBase)]  # fmt: skip
    assert kinds == BOTH
    assert ConvolutionBase.type == ""


@pytest.mark.parametrize("kind", BOTH)
def test_other_numbers_of_channels_are_refused_even_with_groups(kind):
    run = build(kind, "convolution_param { num_output: 4 kernel_size: 1 group: 2 }",
                [(1, 4, 3, 3)])  # fmt: skip
    run.bottom[0].reshape((1, 5, 3, 3))
    with pytest.raises(ShapeError, match="needs 4 channels"):
        run.reshape()
    run.bottom[0].reshape((1, 4, 3))
    with pytest.raises(ShapeError, match="needs 4 axes"):
        run.reshape()


@pytest.mark.parametrize("kind", BOTH)
def test_the_kernel_is_kept_while_the_shape_stays(kind):
    run = build(kind, "convolution_param { num_output: 4 kernel_size: 3 }",
                [(1, 4, 5, 5)])  # fmt: skip
    run.forward()
    kernel = run.layer._kernel
    run.reshape()
    run.forward()
    assert run.layer._kernel is kernel
    run.bottom[0].reshape((2, 4, 5, 5))
    run.reshape()
    run.forward()
    assert run.layer._kernel is not kernel
