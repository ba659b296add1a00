"""Parameter slots of known nets, by hand: (layer, weights, has bias, batch or 0)."""

from __future__ import annotations

from poseidon_caffe.net.hooks import ParamSlot


class Source:
    """A layer that offers factors, for plans that nobody runs."""

    defer_gradient = False

    def factors(self):
        return None


def slots_of(layers):
    """Slots of (name, shape) layers: a bias each, factors for matrices.

    A name beginning with ``bn`` makes the statistics of a BatchNorm: two of that
    shape and one number.
    """
    slots = []

    def add(name, layer, param_index, shape, **more):
        slots.append(
            ParamSlot(
                index=len(slots),
                name=f"{name}/{param_index}",
                owner=layer,
                param_index=param_index,
                shape=shape,
                lr_mult=1.0,
                decay_mult=1.0,
                users=(layer,),
                ready_after=layer,
                **more,
            )
        )

    for layer, (name, shape) in enumerate(layers):
        if name.startswith("bn"):
            for k, axes in enumerate((shape, shape, (1,))):
                add(name, layer, k, axes, statistics=True)
            continue
        add(name, layer, 0, shape, source=Source() if len(shape) == 2 else None)
        add(name, layer, 1, shape[:1])
    return slots


LENET = [
    ("conv1", (20, 1, 5, 5)),
    ("conv2", (50, 20, 5, 5)),
    ("ip1", (500, 800)),
    ("ip2", (10, 500)),
]
ALEXNET = [
    ("conv1", (96, 3, 11, 11)),
    ("conv2", (256, 48, 5, 5)),
    ("conv3", (384, 256, 3, 3)),
    ("conv4", (384, 192, 3, 3)),
    ("conv5", (256, 192, 3, 3)),
    ("fc6", (4096, 9216)),
    ("fc7", (4096, 4096)),
    ("fc8", (1000, 4096)),
]
_VGG_WIDTHS = [3, 64, 64, 128, 128, *[256] * 4, *[512] * 8]
VGG19_22K = [
    *(
        (f"conv{i}", (_VGG_WIDTHS[i + 1], _VGG_WIDTHS[i], 3, 3))
        for i in range(len(_VGG_WIDTHS) - 1)
    ),
    ("fc6", (4096, 25088)),
    ("fc7", (4096, 4096)),
    ("fc8", (21841, 4096)),
]


def _resnet50():
    layers = [("conv1", (64, 3, 7, 7)), ("bn1", (64,))]
    inputs = 64
    for stage, (width, count) in enumerate([(64, 3), (128, 4), (256, 6), (512, 3)]):
        for block in range(count):
            shapes = [(width, inputs, 1, 1), (width, width, 3, 3)]
            shapes.append((4 * width, width, 1, 1))
            if not block:
                shapes.append((4 * width, inputs, 1, 1))
            for k, shape in enumerate(shapes):
                name = f"{stage}{block}{k}"
                layers += [(f"conv{name}", shape), (f"bn{name}", shape[:1])]
            inputs = 4 * width
    return [*layers, ("fc", (1000, 2048))]


RESNET50 = _resnet50()
NETS = {
    "lenet": LENET,
    "alexnet": ALEXNET,
    "vgg19_22k": VGG19_22K,
    "resnet50": RESNET50,
}
