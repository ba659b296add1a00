"""Layers as users of pycaffe write them; `test_python_layer` copies this file."""

import caffe
import numpy as np


class Unusual(Exception):
    pass


class Recorder(caffe.Layer):
    """Passes data on and writes down who calls it."""

    def setup(self, bottom, top):
        self.calls = ["setup"]

    def reshape(self, bottom, top):
        self.calls.append("reshape")
        top[0].reshape(*bottom[0].shape)

    def forward(self, bottom, top):
        self.calls.append("forward")
        top[0].data[...] = 2 * bottom[0].data

    def backward(self, top, propagate_down, bottom):
        self.calls.append(("backward", propagate_down))
        if propagate_down[0]:
            bottom[0].diff[...] = 2 * top[0].diff


class Flat(Recorder):
    """Writes through views that only C-ordered memory has."""

    def forward(self, bottom, top):
        assert bottom[0].data.flags.c_contiguous
        assert top[0].data.flags.c_contiguous
        top[0].data.reshape(-1)[:] = 2 * bottom[0].data.reshape(-1)

    def backward(self, top, propagate_down, bottom):
        bottom[0].diff.reshape(-1)[:] = 2 * top[0].diff.reshape(-1)


class InPlace(caffe.Layer):
    def reshape(self, bottom, top):
        pass

    def forward(self, bottom, top):
        top[0].data[...] += 1

    def backward(self, top, propagate_down, bottom):
        bottom[0].diff[...] *= 3


class Growing(caffe.Layer):
    """A data layer whose batches differ in size, as detection nets have them."""

    def setup(self, bottom, top):
        self.size = 0
        top[0].reshape(1, 3)

    def reshape(self, bottom, top):
        if "reshape" in self.param_str:
            self.size += 1
            top[0].reshape(self.size, 3)

    def forward(self, bottom, top):
        if "forward" in self.param_str:
            self.size += 1
            top[0].reshape(self.size, 3)
        top[0].data[...] = self.size

    def backward(self, top, propagate_down, bottom):
        pass

    def resume_state(self):
        return {"size": self.size}

    def restore_resume_state(self, state):
        self.size = state["size"]


class Weighted(caffe.Layer):
    """Its parameters' diffs are written through views that it kept."""

    def setup(self, bottom, top):
        self.blobs.add_blob(2, 3)
        self.blobs.add_blob(1)
        self.blobs[0].data[...] = 1
        self.kept = self.blobs[0].diff

    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].shape)

    def forward(self, bottom, top):
        top[0].data[...] = bottom[0].data * self.blobs[0].data

    def backward(self, top, propagate_down, bottom):
        self.kept += (bottom[0].data * top[0].diff).sum(0)
        self.blobs[1].diff[...] += 5


class Asked(caffe.Layer):
    def setup(self, bottom, top):
        self.seen = (self.param_str, self.param_str_, self.phase, self.type)

    def reshape(self, bottom, top):
        top[0].reshape()

    def forward(self, bottom, top):
        top[0].data[()] = self.phase


class Loss(caffe.Layer):
    def reshape(self, bottom, top):
        self.diff = np.zeros_like(bottom[0].data)
        top[0].reshape(1)

    def forward(self, bottom, top):
        self.diff[...] = bottom[0].data - bottom[1].data
        top[0].data[...] = (self.diff**2).sum() / bottom[0].num / 2

    def backward(self, top, propagate_down, bottom):
        for i, sign in enumerate((1, -1)):
            if propagate_down[i]:
                bottom[i].diff[...] = sign * self.diff / bottom[i].num


class Failing(caffe.Layer):
    def setup(self, bottom, top):
        if self.param_str == "setup":
            raise Unusual("in setup")
        if self.param_str == "memory":
            raise MemoryError("in setup")

    def reshape(self, bottom, top):
        top[0].reshape(1)

    def forward(self, bottom, top):
        if self.param_str == "forward":
            raise Unusual("in forward")


class Nothing(caffe.Layer):
    pass


def make_recorder(param):
    return Recorder(param)


class NoLayer:
    def __init__(self, param):
        pass
