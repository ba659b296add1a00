"""Small messages between main threads: everybody posts, one reads, all may see."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Sequence

import numpy as np

from poseidon_caffe.comm.courier import Courier, Waiting
from poseidon_caffe.types import Array

__all__ = ["Board", "Gathering"]

# A first frame holds the length and the beginning; most messages are no longer.
_FRAME_BYTES = 1024
_HEAD_BYTES = 8
_ROOM_BYTES = _FRAME_BYTES - _HEAD_BYTES


class _Parcel:
    """Bytes that are on their way from one peer; made in the courier's thread.

    Frames may finish in any order, but only a frame tells how long its rest is: so
    parcels of one peer and topic are opened one after the other.
    """

    def __init__(self, board: Board, peer: int, tag: int, label: str) -> None:
        self.peer, self.done = peer, False
        self._courier, self._tag, self._label = board.courier, tag, label
        self._frame = np.empty(_FRAME_BYTES, np.uint8)
        self._rest: Array = np.empty(0, np.uint8)
        self._size_bytes = 0
        self._queue = board.unopened[peer, tag]
        self._queue.append(self)
        if self._queue[0] is self:
            self.open()

    def open(self) -> None:
        """Await the frame: no earlier parcel awaits its own."""
        self._courier.receive(
            self.peer, self._tag, self._frame, self._opened, label=self._label
        )

    def _opened(self) -> None:
        self._size_bytes = int(self._frame[:_HEAD_BYTES].view(np.int64)[0])
        if self._size_bytes <= _ROOM_BYTES:
            self.done = True
        else:
            self._rest = np.empty(self._size_bytes - _ROOM_BYTES, np.uint8)
            self._courier.receive(
                self.peer, self._tag + 1, self._rest, self._complete, label=self._label
            )
        self._queue.popleft()
        if self._queue:
            self._queue[0].open()

    def _complete(self) -> None:
        self.done = True

    def payload(self) -> bytes:
        """What was sent, once ``done``."""
        first = self._frame[_HEAD_BYTES : _HEAD_BYTES + self._size_bytes]
        return first.tobytes() + self._rest.tobytes()


class Gathering:
    """One round of `Board.gather` under way on the reader's side."""

    def __init__(self, board: Board, topic: int, own: bytes) -> None:
        self._own = own
        self._label = f"board {topic}"
        self._parcels: list[_Parcel] = []
        self._missing = [rank for rank in board.members if rank != board.rank]
        self._posted = False
        tag = board.tag(topic)

        def post() -> None:
            self._parcels = [
                _Parcel(board, peer, tag, self._label) for peer in self._missing
            ]
            self._posted = True

        board.courier.call(post)

    def done(self) -> bool:
        """Whether everybody's message is here."""
        return self._posted and all(parcel.done for parcel in self._parcels)

    def late(self) -> int | None:
        """A rank whose message is not here yet."""
        late = [parcel.peer for parcel in self._parcels if not parcel.done]
        return late[0] if late else None

    def result(self) -> list[bytes]:
        """Everybody's message in the order of members; only once `done`."""
        return [self._own, *(parcel.payload() for parcel in self._parcels)]


class Board:
    """Messages on numbered topics among some ranks, called from their main threads.

    All members make the same calls in the same order on each topic.

    Args:
        courier: started.
        members: ranks that take part, this one among them; the first is the reader.
        first_tag: tags from here on belong to this board, two a topic.

    Attributes:
        unopened: parcels whose beginning has not come, of the courier's thread.
    """

    def __init__(
        self, courier: Courier, members: Sequence[int], first_tag: int
    ) -> None:
        self.courier, self.members = courier, tuple(members)
        self.rank, self.reader = courier.rank, members[0]
        self._first_tag = first_tag
        self.unopened: defaultdict[tuple[int, int], deque[_Parcel]] = defaultdict(deque)

    def tag(self, topic: int) -> int:
        """The first of the two tags of a topic."""
        return self._first_tag + 2 * topic

    def gather(self, topic: int, payload: bytes) -> list[bytes] | None:
        """Everybody's payload in the order of members, for the reader; else None."""
        round_ = self.start_gather(topic, payload)
        if round_ is None:
            return None
        self.finish(round_)
        return round_.result()

    def start_gather(self, topic: int, payload: bytes) -> Gathering | None:
        """Begin a `gather` without waiting; None on all but the reader."""
        if self.rank == self.reader:
            return Gathering(self, topic, payload)
        self._post(self.reader, topic, payload)
        return None

    def finish(self, round_: Gathering, *, is_patient: bool = False) -> None:
        """Wait until a round is complete."""
        what = Waiting("the others' reports", round_.late(), is_patient)
        self.courier.wait_for(round_.done, what)

    def broadcast(
        self, topic: int, payload: bytes | None, *, is_patient: bool = False
    ) -> bytes:
        """The reader's payload, everywhere (the others' own is ignored)."""
        if self.rank == self.reader:
            assert payload is not None
            for peer in self.members:
                if peer != self.rank:
                    self._post(peer, topic, payload)
            return payload
        parcels: list[_Parcel] = []
        tag, reader = self.tag(topic), self.reader
        self.courier.call(
            lambda: parcels.append(_Parcel(self, reader, tag, f"broadcast {topic}"))
        )
        self.courier.wait_for(
            lambda: bool(parcels) and parcels[0].done,
            Waiting(f"word from rank {reader}", reader, is_patient),
        )
        return parcels[0].payload()

    def all_gather(self, topic: int, payload: bytes) -> list[bytes]:
        """Everybody's payload in the order of members, everywhere."""
        found = self.gather(topic, payload)
        packed = None if found is None else _pack(found)
        return _unpack(self.broadcast(topic, packed))

    def barrier(self, topic: int, *, is_patient: bool = False) -> None:
        """Return once every member has come here.

        Args:
            topic: of its own.
            is_patient: it may take as long as it likes.
        """
        round_ = self.start_gather(topic, b"")
        if round_ is not None:
            self.finish(round_, is_patient=is_patient)
        self.broadcast(topic, b"", is_patient=is_patient)

    def _post(self, peer: int, topic: int, payload: bytes) -> None:
        frame = np.zeros(_FRAME_BYTES, np.uint8)
        frame[:_HEAD_BYTES].view(np.int64)[0] = len(payload)
        first = np.frombuffer(payload[:_ROOM_BYTES], np.uint8)
        frame[_HEAD_BYTES : _HEAD_BYTES + first.size] = first
        rest = np.frombuffer(payload[_ROOM_BYTES:], np.uint8)
        tag, label = self.tag(topic), f"board {topic}"

        def post() -> None:
            self.courier.send(peer, tag, frame, label=label)
            if rest.size:
                self.courier.send(peer, tag + 1, rest, label=label)

        self.courier.call(post)


def _pack(items: Sequence[bytes]) -> bytes:
    sizes = np.array([len(items), *map(len, items)], np.int64)
    return sizes.tobytes() + b"".join(items)


def _unpack(data: bytes) -> list[bytes]:
    count = int(np.frombuffer(data, np.int64, 1)[0])
    sizes = np.frombuffer(data, np.int64, count, 8)
    items, at = [], 8 * (count + 1)
    for size in sizes:
        items.append(data[at : at + int(size)])
        at += int(size)
    return items
