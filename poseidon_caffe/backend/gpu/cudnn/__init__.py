"""cuDNN 9 in typed pieces, one family of operations a file.

Nothing here knows CuPy: arrays are used by ``data.ptr``, ``shape``, ``strides`` and
``dtype``, the device by the `CudnnDevice` Protocol.
"""
