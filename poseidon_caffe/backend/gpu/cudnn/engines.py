"""Engines that can compute an operation graph, and plans that run them."""

from __future__ import annotations

from collections.abc import Iterator

from poseidon_caffe.backend.gpu.cudnn.backend_descriptor import BackendDescriptor
from poseidon_caffe.backend.gpu.cudnn.choices import Choice
from poseidon_caffe.backend.gpu.cudnn.constants import MathType
from poseidon_caffe.backend.gpu.cudnn.graph_constants import (
    Attribute,
    AttributeType,
    Heuristic,
    Kind,
    Note,
)
from poseidon_caffe.backend.gpu.cudnn.library import Library
from poseidon_caffe.backend.gpu.cudnn.operation_graph import Target
from poseidon_caffe.backend.gpu.cudnn.settings import CudnnSettings
from poseidon_caffe.errors import BackendError

__all__ = ["Engines", "allowed"]

_LOSSY = {Note.TENSOR_CORE, Note.DOWN_CONVERT_INPUTS, Note.REDUCED_PRECISION_REDUCTION}


def allowed(notes: set[int], settings: CudnnSettings, math: MathType) -> bool:
    """Whether an engine with these numerical notes may be used.

    Args:
        notes: `Note` members (and others that do not matter).
        settings: how to compute.
        math: what `CudnnSettings.math_type` says of the data.
    """
    if settings.deterministic and Note.NONDETERMINISTIC in notes:
        return False
    if math is MathType.FMA:
        return not notes & _LOSSY
    return math is MathType.TENSOR_OP or Note.DOWN_CONVERT_INPUTS not in notes


class Engines:
    """What the library offers for one graph.

    Args:
        library: that makes descriptors.
        graph: the operations, final.
        target: the device.
    """

    def __init__(
        self, library: Library, graph: BackendDescriptor, target: Target
    ) -> None:
        self._library, self._graph, self._target = library, graph, target

    def choices(self, settings: CudnnSettings, math: MathType) -> Iterator[Choice]:
        """Engines with their knobs that may be used, the likely fastest first."""
        seen: set[Choice] = set()
        for mode in (Heuristic.A, Heuristic.B, Heuristic.FALLBACK):
            for configuration in self._ask(mode):
                try:
                    choice, notes = self._read(configuration)
                except BackendError:
                    continue  # the others may do
                if choice not in seen and allowed(notes, settings, math):
                    seen.add(choice)
                    yield choice

    def _ask(self, mode: Heuristic) -> list[BackendDescriptor]:
        """Engine configurations; none where the library knows none."""
        query = BackendDescriptor(self._library, Kind.ENGINEHEUR)
        query.refer(Attribute.ENGINEHEUR_OPERATION_GRAPH, self._graph)
        query.choose(Attribute.ENGINEHEUR_MODE, mode)
        self._target.heuristics(query)
        if not query.finalizes():
            return []
        try:
            results = Attribute.ENGINEHEUR_RESULTS
            count = query.count(results, AttributeType.BACKEND_DESCRIPTOR)
            return query.referred(results, Kind.ENGINECFG, most=count)
        except BackendError:
            return []

    @staticmethod
    def _read(configuration: BackendDescriptor) -> tuple[Choice, set[int]]:
        """Which engine with which knobs, and the engine's numerical notes."""
        engine = configuration.referred(
            Attribute.ENGINECFG_ENGINE, Kind.ENGINE, most=1
        )[0]
        kind, value = Attribute.KNOB_CHOICE_KNOB_TYPE, Attribute.KNOB_CHOICE_KNOB_VALUE
        knobs = tuple(
            (knob.enums(kind, AttributeType.KNOB_TYPE, most=1)[0], knob.long(value))
            for knob in configuration.referred(
                Attribute.ENGINECFG_KNOB_CHOICES, Kind.KNOB_CHOICE
            )
        )
        notes = engine.enums(
            Attribute.ENGINE_NUMERICAL_NOTE, AttributeType.NUMERICAL_NOTE
        )
        index = engine.long(Attribute.ENGINE_GLOBAL_INDEX)
        return Choice(index, knobs=knobs), set(notes)

    def plan(self, choice: Choice) -> BackendDescriptor | None:
        """The choice made ready to run; None where the library cannot."""
        try:
            return self._plan(choice)
        except BackendError:
            return None

    def _plan(self, choice: Choice) -> BackendDescriptor:
        engine = BackendDescriptor(self._library, Kind.ENGINE)
        engine.refer(Attribute.ENGINE_OPERATION_GRAPH, self._graph)
        engine.longs(Attribute.ENGINE_GLOBAL_INDEX, choice.algorithm)
        self._target.engine(engine)
        configuration = BackendDescriptor(self._library, Kind.ENGINECFG)
        configuration.refer(Attribute.ENGINECFG_ENGINE, engine.finalize())
        if choice.knobs:
            knobs = [self._knob(*knob) for knob in choice.knobs]
            configuration.refer(Attribute.ENGINECFG_KNOB_CHOICES, *knobs)
        plan = BackendDescriptor(self._library, Kind.EXECUTION_PLAN)
        self._target.plan(plan)
        plan.refer(Attribute.EXECUTION_PLAN_ENGINE_CONFIG, configuration.finalize())
        return plan.finalize()

    def _knob(self, kind: int, value: int) -> BackendDescriptor:
        knob = BackendDescriptor(self._library, Kind.KNOB_CHOICE)
        knob.put(
            Attribute.KNOB_CHOICE_KNOB_TYPE, AttributeType.KNOB_TYPE,
            self._library.ints([kind]),
        )  # fmt: skip
        knob.longs(Attribute.KNOB_CHOICE_KNOB_VALUE, value)
        return knob.finalize()
