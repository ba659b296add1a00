"""Choosing a backend by name."""

from __future__ import annotations

from poseidon_caffe.backend.gpu.settings import GpuSettings
from poseidon_caffe.backend.protocols import Ops
from poseidon_caffe.backend.reference import ReferenceOps
from poseidon_caffe.backend.threads import default_threads
from poseidon_caffe.errors import BackendError, UsageError

__all__ = ["get_ops"]

_KNOWN = ("cpu", "gpu", "numpy", "reference")


def get_ops(
    name: str = "cpu", threads: int | None = None, gpu: GpuSettings | None = None
) -> Ops:
    """A backend of its own, to be shared by the nets of one process.

    Args:
        name: "cpu" (oneDNN; NumPy where that is missing, with ``ops.note``
            saying so), "gpu", "numpy" (that NumPy on purpose) or "reference".
        threads: threads to compute with; None takes the cores this process may
            run on, less one when there are more than two.
        gpu: which GPU and how; None is the first, in float32.

    Raises:
        UsageError: ``threads`` is not positive, or a CPU is to compute in 16 bits.
        BackendError: no backend of that name; no such GPU.
    """
    if threads is not None and threads < 1:
        raise UsageError(f"the number of threads must be at least 1, not {threads}")
    if name != "gpu" and gpu is not None and gpu.precision in {"bf16", "fp16"}:
        msg = f"precision {gpu.precision} needs a GPU; the CPU computes in float32"
        raise UsageError(msg)
    if name == "cpu":
        return _cpu_ops(threads or default_threads())
    if name == "gpu":
        return _gpu_ops(threads or default_threads(), gpu or GpuSettings())
    if name in {"numpy", "reference"}:
        return ReferenceOps(name)
    raise BackendError(f'no backend "{name}"; there are {", ".join(_KNOWN)}')


def _cpu_ops(threads: int) -> Ops:
    """The oneDNN backend, or NumPy with a note why it is that."""
    try:
        # Loads the library, which the reference does without.
        from poseidon_caffe.backend.cpu import CpuOps

        return CpuOps(threads)
    except (BackendError, ImportError) as error:
        # ImportError: a Python that was built without ctypes.
        note = (
            f"oneDNN cannot be used ({error}); computing with NumPy, which is "
            "several times slower"
        )
        return ReferenceOps("numpy", note)


def _gpu_ops(threads: int, settings: GpuSettings) -> Ops:
    """The GPU backend on a real GPU, or an emulated one."""
    from poseidon_caffe.backend.gpu.opening import open_gpu

    return open_gpu(settings, _cpu_ops(threads))
