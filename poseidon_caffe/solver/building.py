"""The train net and the test nets that a SolverParameter asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from poseidon_caffe.backend.protocols import Ops
from poseidon_caffe.errors import SolverError
from poseidon_caffe.net.filtering import filter_net
from poseidon_caffe.net.net import Net, NetOptions
from poseidon_caffe.schema.messages import NetState, dialect_fields
from poseidon_caffe.schema.upgrade import read_net, upgrade_net
from poseidon_caffe.solver.batches import divide_batches
from poseidon_caffe.solver.events import (
    DataRestarted,
    Event,
    NetBuilt,
    NetCreating,
    Noted,
    Warned,
)
from poseidon_caffe.solver.options import SolverOptions
from poseidon_caffe.types import Phase, Shard

__all__ = ["NetBuilder", "check_test_settings", "ignored_fields"]

#: Fields of forks, the original Poseidon among them, which data layers follow.
_HONOURED = {
    "data_param.shared_file_system",
    "data_param.threads",
    "image_data_param.shared_file_system",
    "image_data_param.threads",
}
_TRAIN_FIELDS = ("train_net_param", "train_net", "net_param", "net")


@dataclass(frozen=True)
class _Source:
    """Where a net comes from: a file or a message, and the field that says so."""

    field: str
    value: Any
    index: int | None = None

    def describe(self) -> str:
        """As Caffe's log says it: ``net file: a.prototxt`` or ``net_param``."""
        if isinstance(self.value, str):
            return f"{self.field} file: {self.value}"
        return self.field if self.index is None else f"{self.field} #{self.index}"


@dataclass(frozen=True)
class NetBuilder:
    """Builds nets for one solver.

    Args:
        param: the SolverParameter.
        shard: which worker this is; test nets are dealt whole batches.
        path: the solver's file; nets that are not found from the working folder
            are looked for beside it.
        emit: takes events.
    """

    param: Any
    ops: Ops
    options: SolverOptions
    seed: int
    shard: Shard
    path: str
    emit: Callable[[Event], None]

    def train_net(self) -> Net:
        """The one train net, its batches divided as the options say.

        Raises:
            SolverError: no net or several are given, or a batch cannot be divided.
        """
        source = _train_source(self.param)
        said = source.describe()
        link = "from" if isinstance(source.value, str) else "specified in"
        self.emit(NetCreating(is_train=True, index=0, source=f"{link} {said}"))
        own = self.param.train_state if self.param.HasField("train_state") else None
        net = self._build(source, Phase.TRAIN, own, self.options.net)
        net.loss_scale = self.ops.loss_scale()
        return net

    def test_nets(self) -> list[Net]:
        """All test nets, in the order of ``test_iter``.

        Raises:
            SolverError: counts of nets, ``test_iter`` and ``test_state`` disagree.
        """
        check_test_settings(self.param)
        options = self.options.test_net or self.options.net
        states = list(self.param.test_state)
        nets = []
        for i, source in enumerate(_test_sources(self.param)):
            said = f"specified by {source.describe()}"
            self.emit(NetCreating(is_train=False, index=i, source=said))
            own = states[i] if states else None
            nets.append(self._build(source, Phase.TEST, own, options))
        return nets

    def _build(
        self, source: _Source, phase: Phase, own: Any | None, options: NetOptions
    ) -> Net:
        """The phase, overruled by the net's own state, then by the solver's."""
        param, path = self._read(source)
        if self.param.debug_info:
            # Its lines tell of every blob, so every blob must be there.
            options = replace(options, fuse=False, share_memory=False)
        state = NetState(phase=phase)
        state.MergeFrom(param.state)
        if own is not None:
            state.MergeFrom(own)
        is_train = phase == Phase.TRAIN
        if is_train and self.options.divide_batch > 1:
            param = filter_net(param, state)
            divide_batches(param, self.options.divide_batch)
        net = Net(
            param,
            ops=self.ops,
            phase=Phase(state.phase),
            level=state.level,
            stages=tuple(state.stage),
            dtype=self.options.dtype,
            seed=self.seed,
            shard=replace(self.shard, by_batch=not is_train),
            options=options,
            path=path,
        )
        if not net.layers:
            net.close()
            given = len(param.layer)
            msg = (
                f"{path or source.describe()}: no layers for phase "
                f"{Phase(state.phase).name} (the net has {given} in all; each one's "
                "include and exclude rules decide)"
            )
            raise SolverError(msg)
        for layer in net.layers:
            layer.note = lambda text: self.emit(DataRestarted(text))
        ignored = ignored_fields(net.param)
        if ignored:
            said = f"{path}: fields of forks of Caffe without effect here: "
            self.emit(Warned(said + ", ".join(ignored)))
        self.emit(NetBuilt(net))
        return net

    def _read(self, source: _Source) -> tuple[Any, str]:
        if isinstance(source.value, str):
            path, notes = self._find(source.value), list[str]()
            param = read_net(path, notes)
            self._note(notes)
            return param, path
        param = type(source.value)()
        param.CopyFrom(source.value)
        where = f"{self.path or '<solver>'}: {source.field}"
        self._note(upgrade_net(param, where))
        return param, where

    def _note(self, notes: list[str]) -> None:
        for note in notes:
            self.emit(Noted(note))

    def _find(self, name: str) -> str:
        """The net's file: from the working folder as in Caffe, or by the solver."""
        beside = Path(self.path).parent / name
        if self.path and not Path(name).exists() and beside.exists():
            return str(beside)
        return name


def ignored_fields(param: Any) -> list[str]:
    """Fields in a net's layers that only forks of Caffe know and that do nothing."""
    found = dict.fromkeys(
        field
        for layer in param.layer
        for field in dialect_fields(layer)
        if field not in _HONOURED
    )
    return sorted(found)


def _train_source(param: Any) -> _Source:
    given = [name for name in _TRAIN_FIELDS if param.HasField(name)]
    if not given:
        msg = (
            "the solver must name a train net in one of the fields "
            f"{', '.join(reversed(_TRAIN_FIELDS))}, for example "
            'net: "train_val.prototxt"'
        )
        raise SolverError(msg)
    if len(given) > 1:
        msg = (
            f"the solver names a train net in {' and '.join(given)}; "
            "keep one of these fields"
        )
        raise SolverError(msg)
    return _Source(given[0], getattr(param, given[0]))


def _generic_source(param: Any) -> _Source | None:
    """The net that serves both phases, if there is one."""
    for name in ("net_param", "net"):
        if param.HasField(name):
            return _Source(name, getattr(param, name))
    return None


def _test_sources(param: Any) -> Iterator[_Source]:
    for i, message in enumerate(param.test_net_param):
        yield _Source("test_net_param", message, i)
    for name in param.test_net:
        yield _Source("test_net", name)
    generic = _generic_source(param)
    named = len(param.test_net_param) + len(param.test_net)
    if generic is not None:
        for _ in range(len(param.test_iter) - named):
            yield generic


def check_test_settings(param: Any) -> None:
    """Raise SolverError when the settings about testing contradict each other."""
    named = len(param.test_net_param) + len(param.test_net)
    given = len(param.test_iter)
    generic = _generic_source(param) is not None
    if given < named or (not generic and given != named):
        least = "at least " if generic else ""
        msg = (
            f"test_iter must be given once for each test net: {least}{named} "
            f"(test_net and test_net_param), not {given}"
        )
        raise SolverError(msg)
    if param.test_state and len(param.test_state) != given:
        msg = (
            f"test_state must be left out or given once per test net: {given} "
            f"times, not {len(param.test_state)}"
        )
        raise SolverError(msg)
    if given and param.test_interval <= 0:
        msg = (
            f"test_interval: {param.test_interval} must be above 0 "
            "when test_iter is given"
        )
        raise SolverError(msg)
    for i, count in enumerate(param.test_iter):
        if count < 0:
            msg = f"test_iter #{i}: {count} must be at least 0 (0: no test)"
            raise SolverError(msg)
