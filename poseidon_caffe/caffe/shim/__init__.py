"""A folder for ``sys.path`` in which ``import caffe`` finds this library's face.

``python -m poseidon_caffe.caffe`` puts it there for the processes that a script
starts by multiprocessing's "spawn" or "forkserver": they inherit the path only.
"""

from __future__ import annotations
