"""``poseidon train`` under mpirun: one training on all ranks together.

Whatever goes wrong before the first iteration is gathered, told once by rank 0, and
all ranks leave in order.  Later a rank that fails tells it itself and ends the job.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any, Final, NoReturn

from poseidon_caffe import __version__
from poseidon_caffe.cli.cluster_flags import check_size, check_solver, cluster_settings
from poseidon_caffe.cli.cluster_training import ClusterTraining
from poseidon_caffe.cli.flags import Arguments
from poseidon_caffe.cli.joint import Joint, JointFailure
from poseidon_caffe.cli.launched import launched, named, placed
from poseidon_caffe.cli.voices import Voice
from poseidon_caffe.comm.aborting import install_hooks
from poseidon_caffe.comm.board import Board
from poseidon_caffe.comm.cluster import Cluster
from poseidon_caffe.comm.courier import Courier
from poseidon_caffe.comm.mpi import open_mpi
from poseidon_caffe.comm.roster import Fingerprint, exchange
from poseidon_caffe.comm.settings import ClusterSettings
from poseidon_caffe.comm.transport import Transport
from poseidon_caffe.comm.watch import Watchman
from poseidon_caffe.errors import UsageError
from poseidon_caffe.report.console import FAILED, tell
from poseidon_caffe.report.glog import Glog

__all__ = ["train_together"]

# Threads take turns this often at least: the courier must not wait for Python code.
_SWITCH_S: Final = 0.0005
# A rank holds its error back so long, for rank 0 mostly meets and tells the same.
_HOLD_BACK_S: Final = 1.0
_PER_RANK_S: Final = 0.25
_LONGEST_HOLD_BACK_S: Final = 3.0
# Tags of the board on which ranks meet before they are a cluster.
_FIRST_TAG: Final = 900


def train_together(args: Arguments, log: Glog, threads: int) -> int:
    """Train with all ranks; the exit code.

    Args:
        args: of the command ``train``, each flag checked.
        log: silent but on rank 0.
        threads: that compute on this rank.

    Raises:
        ClusterError: MPI cannot be used.
    """
    sys.setswitchinterval(_SWITCH_S)
    transport = open_mpi()
    voice = Voice(log, transport.rank)
    restore = install_hooks(transport, voice.tell_end)
    try:
        place = placed(launched(), transport.rank, transport.hosts)
        training = ClusterTraining(args, log, threads, place)
        return _train(training, args, transport, voice)
    except JointFailure as failure:
        code = _tell_joint(log, failure, debug=args.boolean("debug"))
        transport.close()
        return code
    except BaseException as error:  # noqa: BLE001 - the others would wait for ever
        _end_job(log, error, transport, debug=args.boolean("debug"))
    finally:
        restore()


def _train(
    training: ClusterTraining, args: Arguments, transport: Transport, voice: Voice
) -> int:
    """Meet, become a cluster, train, and leave; the exit code."""
    settings = cluster_settings(args)
    param = _meet(training, args, transport, settings, voice.tell_line)
    cluster = Cluster(transport, settings, voice.tell_line)
    try:
        training.run_in(cluster, param)
    except JointFailure:
        cluster.watchman.close()
        cluster.courier.close()
        raise
    except BaseException:
        cluster.watchman.give_up()
        raise
    cluster.close()
    return 0


def _meet(
    training: ClusterTraining,
    args: Arguments,
    transport: Transport,
    settings: ClusterSettings,
    tell_line: Callable[[str], None],
) -> Any:
    """The solver's parameters, once all ranks have read theirs and agree on flags.

    The cluster proper needs flags that are the same everywhere.
    """
    courier = Courier(transport, ClusterSettings())
    courier.start()
    # Flags are not known to agree yet, so nothing that they decide is used.
    watchman = Watchman(courier, ClusterSettings(), tell_line)
    watchman.start()
    try:
        board = Board(courier, range(transport.size), _FIRST_TAG)
        joint = Joint(board, transport.rank, transport.hosts)
        joint.alike(
            lambda: exchange(
                board,
                Fingerprint.of(__version__, training.agreed_flags(), {}),
                {},
                transport.hosts,
            )
        )

        def read() -> Any:
            check_size(settings.servers, transport.size)
            param = training.read()
            check_solver(args, param)
            return param

        result = joint.together(read)
        watchman.close()
    except JointFailure:
        watchman.close()
        raise
    except BaseException:
        watchman.give_up()
        raise
    else:
        return result
    finally:
        courier.close()


def _tell_joint(log: Glog, failure: JointFailure, *, debug: bool) -> int:
    """Rank 0 tells what all know; the exit code."""
    if failure.error is None:
        return FAILED
    is_usage = isinstance(failure.error, UsageError)
    hints = ("see 'poseidon train --help'",) if is_usage else ()
    return tell(log, failure.error, debug=debug, hints=hints)


def _end_job(
    log: Glog, error: BaseException, transport: Transport, *, debug: bool
) -> NoReturn:
    """Tell what this rank alone met, and end all ranks."""
    rank = transport.rank
    if rank:
        time.sleep(min(_HOLD_BACK_S + _PER_RANK_S * rank, _LONGEST_HOLD_BACK_S))
        log.stream = sys.stderr
        error = named(error, rank, transport.hosts[rank])
    code = tell(log, error, debug=debug)
    log.close()
    transport.abort(code)
