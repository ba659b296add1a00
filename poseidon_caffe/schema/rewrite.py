"""Files of old formats written again in today's, as Caffe's upgrade tools do."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from poseidon_caffe.schema import messages
from poseidon_caffe.schema.atomic import atomic_write
from poseidon_caffe.schema.binary import read_binary, write_binary
from poseidon_caffe.schema.files import StrPath
from poseidon_caffe.schema.text import read_prototxt, to_prototxt
from poseidon_caffe.schema.upgrade import (
    needs_upgrade,
    upgrade_net,
    upgrade_solver,
)

__all__ = ["Rewritten", "rewrite_net_binary", "rewrite_net_text", "rewrite_solver_text"]


@dataclass(frozen=True)
class Rewritten:
    """What was done to one file.

    Attributes:
        current: it was in today's format already, and only written again.
        notes: one line for each upgrade, and for each setting without effect.
    """

    current: bool
    notes: tuple[str, ...]


def rewrite_net_text(source: StrPath, target: StrPath) -> Rewritten:
    """Reads a net's prototxt of any age and writes it in today's format.

    Caffe parity: upgrade_net_proto_text.  Comments are lost, fields stand in the
    order of their numbers, and a file that needs no upgrade is written all the same.

    Args:
        source: the prototxt.
        target: where the new one is written, whole or not at all; may be ``source``.

    Raises:
        ParseError: ``source`` is missing, malformed or contradicts itself.
        SnapshotError: ``target`` cannot be written.
    """
    name = os.fspath(source)
    net = read_prototxt(name, messages.NetParameter)
    done = _upgrade(net, name)
    atomic_write(target, to_prototxt(net).encode())
    return done


def rewrite_net_binary(source: StrPath, target: StrPath) -> Rewritten:
    """Reads a ``.caffemodel`` of any age and writes it in today's format.

    Caffe parity: upgrade_net_proto_binary; blobs keep their own old form
    (``num``, ``channels``, ...), which every reader understands.

    Args:
        source: the binary NetParameter.
        target: where the new one is written, whole or not at all; may be ``source``.

    Raises:
        ParseError: ``source`` is missing, damaged or contradicts itself.
        SnapshotError: ``target`` cannot be written.
    """
    name = os.fspath(source)
    net = read_binary(name, messages.NetParameter)
    done = _upgrade(net, name)
    write_binary(target, net)
    return done


def rewrite_solver_text(source: StrPath, target: StrPath) -> Rewritten:
    """Reads a solver's prototxt of any age and writes it in today's format.

    Caffe parity: upgrade_solver_proto_text; ``solver_type`` becomes ``type``, and
    nothing else changes (a missing ``snapshot_prefix`` stays so).

    Args:
        source: the prototxt.
        target: where the new one is written, whole or not at all; may be ``source``.

    Raises:
        ParseError: ``source`` is missing, malformed or contradicts itself.
        SnapshotError: ``target`` cannot be written.
    """
    name = os.fspath(source)
    solver = read_prototxt(name, messages.SolverParameter)
    notes = upgrade_solver(solver, name)
    atomic_write(target, to_prototxt(solver).encode())
    return Rewritten(current=not notes, notes=tuple(notes))


def _upgrade(net: Any, name: str) -> Rewritten:
    current = not needs_upgrade(net)
    return Rewritten(current, tuple(upgrade_net(net, name)))
