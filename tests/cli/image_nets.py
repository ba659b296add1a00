"""A small net for images, saved with its weights."""

from __future__ import annotations

from poseidon_caffe import caffe

__all__ = ["save_net", "words_for"]

NET = """
layer {{ name: "data" type: "Input" top: "data"
  input_param {{ shape {{ dim: 2 dim: {channels} dim: 12 dim: 12 }} }} }}
layer {{ name: "ip" type: "InnerProduct" bottom: "data" top: "ip"
  inner_product_param {{ num_output: 4
    weight_filler {{ type: "gaussian" std: 0.01 }} }} }}
layer {{ name: "prob" type: "Softmax" bottom: "ip" top: "prob" }}
"""


def save_net(folder, channels=3):
    """Write deploy.prototxt and net.caffemodel; the folder."""
    model = folder / "deploy.prototxt"
    model.write_text(NET.format(channels=channels))
    caffe.set_random_seed(21)
    caffe.Net(str(model), caffe.TEST).save(str(folder / "net.caffemodel"))
    return folder


def words_for(folder):
    """Flags that name them."""
    return [
        f"--model_def={folder / 'deploy.prototxt'}",
        f"--pretrained_model={folder / 'net.caffemodel'}",
    ]
