"""Writing nets in Python: ``layers as L``, ``params as P``, ``NetSpec``.

Example::

    from poseidon_caffe.caffe import layers as L, params as P, NetSpec

    n = NetSpec()
    n.data, n.label = L.Data(
        source="train_lmdb", backend=P.Data.LMDB, batch_size=64, ntop=2
    )
    n.ip = L.InnerProduct(n.data, num_output=10, weight_filler=dict(type="xavier"))
    n.loss = L.SoftmaxWithLoss(n.ip, n.label)
    print(n.to_proto())

A keyword goes into the message of the layer's type (``inner_product_param``) if
that has such a field, else into the layer itself; keywords that end in ``param``
always into the layer.  Tops that are given no name get the type and a number.
"""

from __future__ import annotations

import difflib
import functools
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any

from poseidon_caffe.errors import UsageError
from poseidon_caffe.layers.registry import known_types
from poseidon_caffe.schema import messages

__all__ = [
    "Function",
    "Layers",
    "NetSpec",
    "NotATopError",
    "Parameters",
    "Top",
    "assign_proto",
    "layers",
    "param_name_dict",
    "params",
    "to_proto",
]


@functools.cache
def param_name_dict() -> dict[str, str]:
    """Layer type to the stem of its field: ``{"InnerProduct": "inner_product"}``."""
    found: dict[str, str] = {}
    for field in messages.message_class("LayerParameter").DESCRIPTOR.fields:
        if field.name.endswith("_param") and field.message_type is not None:
            kind = field.message_type.name.removesuffix("Parameter")
            found.setdefault(kind, field.name.removesuffix("_param"))
    return found


def assign_proto(proto: Any, name: str, value: Any) -> None:
    """Set a field of a message from plain Python: dicts are messages, lists repeat.

    Raises:
        UsageError: no such field, or the value does not fit.
    """
    field = proto.DESCRIPTOR.fields_by_name.get(name)
    if field is None:
        near = difflib.get_close_matches(name, proto.DESCRIPTOR.fields_by_name, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise UsageError(f"{proto.DESCRIPTOR.name} has no field {name!r}{hint}")
    try:
        if not field.is_repeated:
            _assign_one(proto, field, value)
        elif field.message_type is not None:
            for item in value if isinstance(value, (list, tuple)) else [value]:
                _merge(getattr(proto, name).add(), item)
        else:
            items = [value] if isinstance(value, (str, bytes)) else value
            items = items if hasattr(items, "__iter__") else [items]
            getattr(proto, name).extend(_plain(field, item) for item in items)
    except (TypeError, ValueError) as error:
        msg = f"{proto.DESCRIPTOR.name}.{name} cannot hold {value!r}: {error}"
        raise UsageError(msg) from error


def _assign_one(proto: Any, field: Any, value: Any) -> None:
    if field.message_type is not None:
        _merge(getattr(proto, field.name), value)
    else:
        setattr(proto, field.name, _plain(field, value))


def _merge(target: Any, value: Any) -> None:
    """Fill a message from a mapping or from another message."""
    target.SetInParent()
    if isinstance(value, Mapping):
        for key, item in value.items():
            assign_proto(target, key, item)
    else:
        target.MergeFrom(value)


def _plain(field: Any, value: Any) -> Any:
    """``value`` as protobuf takes it: enum names as numbers, NumPy scalars bare."""
    if field.enum_type is not None and isinstance(value, str):
        known = field.enum_type.values_by_name
        if value not in known:
            raise ValueError(f"expected one of {', '.join(known)}")
        return known[value].number
    return value.item() if hasattr(value, "item") else value


class NotATopError(UsageError, TypeError):
    """A layer was given something else than blobs (pycaffe raised TypeError)."""


def _not_a_top(type_name: str, index: int, item: Any) -> NotATopError:
    error = NotATopError(
        f"{type_name} input {index} is not a Top (type is {type(item)})"
    )
    error.add_note(
        f"it is {item!r}; inputs are what other layers returned (those with several "
        "tops return a tuple: pass its items; those with ntop=0 have none)"
    )
    return error


class Top:
    """One blob that a layer makes."""

    __slots__ = ("fn", "n")

    def __init__(self, fn: Function, n: int) -> None:
        self.fn, self.n = fn, n

    def to_proto(self) -> Any:
        """The net that makes this blob, as a NetParameter."""
        return to_proto(self)

    def _update(self, settings: Mapping[str, Any]) -> None:
        self.fn._update(settings)  # noqa: SLF001 - pycaffe's name


class Function:
    """One layer: its type, the blobs it reads and its settings.

    Args:
        type_name: type string, such as "Convolution".
        inputs: the blobs it reads.
        settings: fields by keyword; ``ntop`` (how many blobs it makes, 1 by
            default) and ``in_place`` are not fields but settings of this object.

    Raises:
        NotATopError: an input is no blob.
    """

    def __init__(
        self, type_name: str, inputs: tuple[Any, ...], settings: dict[str, Any]
    ) -> None:
        for index, item in enumerate(inputs):
            if not isinstance(item, Top):
                raise _not_a_top(type_name, index, item)
        self.type_name = type_name
        self.inputs: tuple[Top, ...] = inputs
        self.params = dict(settings)
        self.ntop: int = self.params.pop("ntop", 1)
        self.in_place: bool = self.params.pop("in_place", False)
        self.tops = tuple(Top(self, i) for i in range(self.ntop))

    def to_proto(self) -> Any:
        """The net up to this layer, as a NetParameter."""
        return to_proto(self)

    def _update(self, settings: Mapping[str, Any]) -> None:
        self.params.update(settings)

    def fill(self, layer: Any) -> None:
        """Write the settings into a LayerParameter.

        Raises:
            UsageError: a setting is a field of neither message.
        """
        stem = param_name_dict().get(self.type_name)
        own = {} if stem is None else _fields(layer, f"{stem}_param")
        for key, value in self.params.items():
            if not key.endswith("param") and key in own:
                assign_proto(getattr(layer, f"{stem}_param"), key, value)
            elif key in layer.DESCRIPTOR.fields_by_name:
                assign_proto(layer, key, value)
            else:
                raise UsageError(self._misspelt(key, own, layer))

    def _misspelt(self, key: str, own: Mapping[str, Any], layer: Any) -> str:
        types = known_types()
        if self.type_name not in types:
            near = difflib.get_close_matches(self.type_name, types, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            return (
                f"{self.type_name!r} is no layer type{hint} (a type of your own takes "
                f"no setting {key!r})"
            )
        known = [*own, *layer.DESCRIPTOR.fields_by_name]
        near = difflib.get_close_matches(key, known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        return f"a {self.type_name} layer has no setting {key!r}{hint}"


def _fields(message: Any, name: str) -> Mapping[str, Any]:
    descriptor = message.DESCRIPTOR.fields_by_name[name].message_type
    fields: Mapping[str, Any] = descriptor.fields_by_name
    return fields


class _Builder:
    """Turns functions into LayerParameters, inputs first, and names what has none."""

    def __init__(self, names: Mapping[Top | Function, str]) -> None:
        self.layers: OrderedDict[Function, Any] = OrderedDict()
        self._names = dict(names)
        self._counts: Counter[str] = Counter()

    def add(self, fn: Function) -> None:
        """Add ``fn`` and everything it reads, unless there already."""
        pending: list[tuple[Function, Iterator[Top]]] = [(fn, iter(fn.inputs))]
        while pending:
            current, inputs = pending[-1]
            missing = next((t.fn for t in inputs if t.fn not in self.layers), None)
            if missing is not None:
                pending.append((missing, iter(missing.inputs)))
                continue
            pending.pop()
            if current not in self.layers:
                self.layers[current] = self._layer(current)

    def _layer(self, fn: Function) -> Any:
        layer = messages.message_class("LayerParameter")()
        layer.type = fn.type_name
        layer.bottom.extend(self.layers[top.fn].top[top.n] for top in fn.inputs)
        if fn.in_place:
            layer.top.extend(layer.bottom)
        else:
            layer.top.extend(self._name(top, fn.type_name) for top in fn.tops)
        layer.name = self._name(fn.tops[0] if fn.tops else fn, fn.type_name)
        fn.fill(layer)
        return layer

    def _name(self, thing: Top | Function, type_name: str) -> str:
        if thing not in self._names:
            self._counts[type_name] += 1
            self._names[thing] = f"{type_name}{self._counts[type_name]}"
        return self._names[thing]

    def net(self) -> Any:
        """What was added, as a NetParameter."""
        net = messages.message_class("NetParameter")()
        net.layer.extend(self.layers.values())
        return net


def _function(thing: Any) -> Function:
    if isinstance(thing, Top):
        return thing.fn
    if isinstance(thing, Function):
        return thing
    msg = f"expected what a layer returned, received {type(thing).__name__} {thing!r}"
    raise UsageError(msg)


def to_proto(*tops: Top | Function) -> Any:
    """The smallest net that makes all of ``tops``, as a NetParameter."""
    builder = _Builder({})
    for top in tops:
        builder.add(_function(top))
    return builder.net()


class NetSpec:
    """A net in the making: attributes (or items) name the blobs.

    ``n.conv1 = L.Convolution(n.data, ...)`` names blob and layer "conv1"; names that
    are no identifiers go through items: ``n["res2a/conv"]``.
    """

    tops: OrderedDict[str, Top | Function]

    def __init__(self) -> None:
        super().__setattr__("tops", OrderedDict())

    def __setattr__(self, name: str, value: Top | Function) -> None:
        _function(value)
        self.tops[name] = value

    def __getattr__(self, name: str) -> Any:
        try:
            return self.tops[name]
        except KeyError:
            raise AttributeError(f"the net has no blob {name!r} yet") from None

    def __delattr__(self, name: str) -> None:
        del self.tops[name]

    def __setitem__(self, name: str, value: Top | Function) -> None:
        setattr(self, name, value)

    def __getitem__(self, name: str) -> Any:
        return self.tops[name]

    def __delitem__(self, name: str) -> None:
        del self.tops[name]

    def update(self, name: str, settings: Mapping[str, Any]) -> None:
        """Add or change settings of the layer that makes blob ``name``."""
        _function(self.tops[name])._update(settings)  # noqa: SLF001 - pycaffe's name

    def to_proto(self) -> Any:
        """The net as a NetParameter, layers in the order they were named."""
        builder = _Builder({top: name for name, top in self.tops.items()})
        for top in self.tops.values():
            builder.add(_function(top))
        return builder.net()


class Layers:
    """``L.Anything(*inputs, **settings)`` makes a layer of type "Anything"."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def make(*inputs: Any, **settings: Any) -> Any:
            fn = Function(name, inputs, settings)
            if fn.ntop == 0:
                return fn
            return fn.tops[0] if fn.ntop == 1 else fn.tops

        make.__name__ = make.__qualname__ = name
        return make


class Parameters:
    """``P.Pooling.MAX``: the message class ``PoolingParameter`` and its enums."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return messages.message_class(f"{name}Parameter")


layers = Layers()
params = Parameters()
