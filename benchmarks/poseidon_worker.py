"""Poseidon's side: ``python -m benchmarks.poseidon_worker CASE THREADS [update]``."""

from __future__ import annotations

import sys

from poseidon_caffe.cli.threads import prepare


def main() -> None:
    """Forward and full backward as ``poseidon train`` runs them."""
    prepare(int(sys.argv[2]))
    # NumPy and OpenMP load here, with the environment that the command line sets.
    from benchmarks.nets import find, sample, training_net
    from benchmarks.worker import serve
    from poseidon_caffe.backend.select import get_ops
    from poseidon_caffe.net.net import Net, NetOptions
    from poseidon_caffe.types import Phase

    case = find(sys.argv[1])
    ops = get_ops("cpu", int(sys.argv[2]))
    if ops.note:
        raise SystemExit(ops.note)
    net = Net(
        training_net(case),
        ops=ops,
        phase=Phase.TRAIN,
        seed=1,
        options=NetOptions(fuse=True, share_memory=True),
    )
    images, labels = sample(case)
    data, label = net.input_names
    net.blobs[data].data[...] = images
    net.blobs[label].data[...] = labels

    def step() -> float:
        net.clear_param_diffs()
        loss = net.forward_backward()
        for blob in net.learnable:
            # A solver would have changed them: weights are packed anew each time.
            blob.touch()
        return loss

    serve(step)


if __name__ == "__main__":
    main()
