"""The cluster of one rank: transport, courier, watch, and what is attached to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from poseidon_caffe.comm.agreement import Agreement
from poseidon_caffe.comm.board import Board
from poseidon_caffe.comm.broadcast import Broadcaster
from poseidon_caffe.comm.client import DirectClient, RowClient
from poseidon_caffe.comm.collecting import HistoryCollector
from poseidon_caffe.comm.courier import Courier
from poseidon_caffe.comm.delivery import DirectDelivery
from poseidon_caffe.comm.factors import FactorExchange
from poseidon_caffe.comm.gate import Gate
from poseidon_caffe.comm.link import measure
from poseidon_caffe.comm.memory import ServedBlob
from poseidon_caffe.comm.model import Model, Roles
from poseidon_caffe.comm.norm import NormBoard
from poseidon_caffe.comm.observer import ClusterObserver
from poseidon_caffe.comm.ordering import SendOrder
from poseidon_caffe.comm.plan import Plan, make_plan
from poseidon_caffe.comm.replicas import ReplicaCheck
from poseidon_caffe.comm.scaling import ScaleFollower, scaled_model
from poseidon_caffe.comm.server import Delivery, RowServer
from poseidon_caffe.comm.settings import ClusterSettings
from poseidon_caffe.comm.stale import BufferPool, StaleClient, VersionedDelivery
from poseidon_caffe.comm.sync import ClusterSync
from poseidon_caffe.comm.tags import FIRST_BOARD_TAG
from poseidon_caffe.comm.traffic import Traffic
from poseidon_caffe.comm.transport import Transport
from poseidon_caffe.comm.verdict import VerdictBoard
from poseidon_caffe.comm.watch import Watchman
from poseidon_caffe.errors import ClusterError
from poseidon_caffe.types import Array

__all__ = ["Attachment", "Cluster"]

_WORKERS_BOARD_TAG = FIRST_BOARD_TAG + 400
_END = 40


class Attachment:
    """A model being trained on this rank.

    Attributes:
        plan: how its slots travel.
        traffic: counts the bytes of its messages.
        observer, sync: for the net and the solver of a worker; None on a server.
    """

    def __init__(self, cluster: Cluster, model: Model, plan: Plan) -> None:
        self._cluster, self._model, self.plan = cluster, model, plan
        self.observer: ClusterObserver | None = None
        self.sync: ClusterSync | None = None
        courier, roles, settings = cluster.courier, cluster.roles, cluster.settings
        self.traffic = Traffic(plan.rows, plan.choices, model.slots, roles)
        courier.traffic = self.traffic
        self._verdicts = self._make_verdicts()
        if self._verdicts is not None:
            self._model = scaled_model(model, self._verdicts)
        self._norm = self._make_norm()
        self._collector = HistoryCollector(courier, plan.rows, self._model, roles)
        self._pool = BufferPool()
        self._is_stale = settings.staleness > 0 or settings.force_ssp
        self._opened: list[Callable[[], None]] = [self._collector.open]
        if self._verdicts is not None:
            self._opened.append(self._verdicts.open)
        if self._norm is not None:
            self._opened.append(self._norm.open)
        client = self._make_client() if roles.works else None
        self._client = client
        self._server = self._make_server() if roles.serves else None
        if client is not None:
            self._make_worker(client)
        for each in self._opened:
            courier.call(each)

    def _learns(self) -> bool:
        """Whether any gradient travels."""
        return bool(self.plan.pairs) or not all(row.is_mean for row in self.plan.rows)

    def _make_verdicts(self) -> VerdictBoard | None:
        model, cluster = self._model, self._cluster
        if model.scale is None or not self._learns():
            return None
        staleness = cluster.settings.staleness
        return VerdictBoard(cluster.courier, cluster.roles, model.iteration, staleness)

    def _make_norm(self) -> NormBoard | None:
        model, cluster = self._model, self._cluster
        if model.clip_gradients < 0:
            return None
        if cluster.settings.staleness:
            msg = (
                "clip_gradients needs every gradient of an iteration at once: train "
                "with --staleness 0, or remove clip_gradients from the solver"
            )
            raise ClusterError(msg)
        if not self._learns():
            return None
        return NormBoard(
            cluster.courier,
            cluster.roles,
            model.clip_gradients,
            with_factors=bool(self.plan.pairs),
            clock=model.iteration,
            verdicts=self._verdicts,
        )

    def _make_client(self) -> RowClient:
        cluster, rows, model = self._cluster, self.plan.rows, self._model
        courier, roles = cluster.courier, cluster.roles
        contribute = self._contribute if roles.serves else None
        client: RowClient
        if self._is_stale:
            order = SendOrder(cluster.settings.update_sort_policy)
            client = StaleClient(
                courier, rows, model, roles, contribute, order, self._pool
            )
        else:
            client = DirectClient(courier, rows, model, roles, contribute)
        self._opened.append(client.open)
        return client

    def _make_server(self) -> RowServer:
        cluster, rows, model = self._cluster, self.plan.rows, self._model
        courier, roles = cluster.courier, cluster.roles
        own = None if self._client is None else self._client.deliver
        delivery: Delivery
        if self._is_stale:
            delivery = VersionedDelivery(courier, rows, model, roles, own, self._pool)
        else:
            delivery = DirectDelivery(courier, rows, model, roles, own)
        server = RowServer(
            courier, rows, model, roles, delivery, self._norm, self._verdicts
        )
        self._opened.append(server.open)
        return server

    def _contribute(self, row: int, gradient: Array) -> None:
        assert self._server is not None
        self._server.contribute(row, gradient, is_private=self._is_stale)

    def _make_worker(self, client: RowClient) -> None:
        cluster, plan, model = self._cluster, self.plan, self._model
        courier, roles, settings = cluster.courier, cluster.roles, cluster.settings
        factors = FactorExchange(
            courier, plan.pairs, model, roles, self._norm, courier.window_bytes,
            self._verdicts,
        )  # fmt: skip
        follower = self._make_follower()
        gate = Gate(courier, plan.rows, client, factors, model, follower)
        beat = cluster.watchman.beat
        self.observer = ClusterObserver(
            model, plan.rows, client, factors, gate, settings, beat, follower
        )
        agreement = Agreement(courier, roles, 1 + settings.staleness, model.iteration)
        replicas = ReplicaCheck(
            cluster.workers_board,
            model,
            [slot.index for pair in plan.pairs for slot in pair.slots],
            settings.check_replicas_iters,
            Broadcaster(courier, roles.workers),
            cluster.tell,
        )
        self.sync = ClusterSync(
            cluster.workers_board,
            model,
            gate,
            self.observer,
            agreement,
            self._collector,
            replicas,
            self._norm,
        )
        self._opened += [factors.open, agreement.open]

    def _make_follower(self) -> ScaleFollower | None:
        model, verdicts = self._model, self._verdicts
        if verdicts is None or model.scale is None:
            return None
        courier = self._cluster.courier
        return ScaleFollower(courier, model.scale, verdicts, model.iteration)


class Cluster:
    """One rank's part of a cluster, from its start to its end.

    Args:
        transport: open, not used by anybody else.
        settings: the same on every rank.
        tell: gets lines for the log.

    Attributes:
        roles: who works and who serves.
        courier, watchman: started.
        board: among all ranks; workers_board: among workers (None on a server).
        link: the measured link, as a class that is the same in every run.

    Raises:
        ClusterError: roles that cannot be, or a peer that does not answer.
    """

    def __init__(
        self,
        transport: Transport,
        settings: ClusterSettings,
        tell: Callable[[str], None],
    ) -> None:
        if settings.servers >= transport.size:
            msg = (
                f"--servers {settings.servers} of {transport.size} ranks leaves no "
                "worker: start more ranks, or fewer servers"
            )
            raise ClusterError(msg)
        self.transport, self.settings, self.tell = transport, settings, tell
        self.roles = Roles.of(transport.rank, transport.size, settings.servers)
        self.link, self.sizes = measure(transport, len(self.roles.servers), settings)
        self.courier = Courier(transport, settings)
        self.courier.window_bytes = settings.row_bytes or self.sizes.row_bytes
        self.watchman = Watchman(self.courier, settings, tell)
        self.courier.start()
        self.watchman.start()
        everybody = range(transport.size)
        self.board = Board(self.courier, everybody, FIRST_BOARD_TAG)
        self.workers_board = Board(self.courier, self.roles.workers, _WORKERS_BOARD_TAG)

    def broadcast(self, arrays: Sequence[Array]) -> None:
        """Overwrite every other rank's ``arrays`` with rank 0's."""
        Broadcaster(self.courier, range(self.transport.size)).broadcast(arrays)

    def attach(self, model: Model) -> Attachment:
        """Begin to train ``model``, whose values are the same on every rank.

        Raises:
            ClusterError: settings that contradict the model.
        """
        if not self.roles.works:
            served = [ServedBlob(blob) for blob in model.blobs]
            model = replace(model, blobs=served)
        plan = make_plan(model, self.roles, self.settings, self.link, self.sizes)
        attachment = Attachment(self, model, plan)
        # Nobody may send before every receive is posted somewhere sensible, and a
        # late rank's first wait shall not count as a stall.
        self.board.barrier(_END - 1)
        return attachment

    def serve(self) -> None:
        """What a dedicated server's main thread does: wait for the workers' end."""
        self.board.barrier(_END, is_patient=True)

    def close(self) -> None:
        """Leave together with all other ranks, in order."""
        if self.roles.works:
            self.board.barrier(_END)
        self.watchman.close()
        if not self.courier.close():
            msg = f"rank {self.courier.rank}: at the end messages of it did not leave"
            raise ClusterError(msg)
        self.transport.close()
