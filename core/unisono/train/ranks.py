"""Ranks: processes that torchrun, srun or a cluster started, before Lightning joins them.

Rank 0 chooses the run's folder and prepares the corpus; the others wait for it and read. They meet in the key-value
store at MASTER_ADDR and MASTER_PORT, which Lightning's process group uses afterwards. Processes that Lightning starts
itself need none of this: it starts them when the first one has prepared everything.
"""

import itertools
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from torch._C._distributed_c10d import PrefixStore, TCPStore

from unisono.errors import RecipeError, UnisonoError

RUN_DIR, RUN_STATE = "UNISONO_RUN_DIR", "UNISONO_RUN_STATE"
"""The variables by which the processes that Lightning starts know their run's folder, and the state to go on from."""
WAIT = "UNISONO_RANK_WAIT"
"""The variable that says for how many seconds ranks wait for rank 0 (7200)."""

Value = TypeVar("Value")
_calls = itertools.count()


@dataclass
class Ranks:
    """This process among those that were started together."""

    rank: int = 0
    world_size: int = 1
    store: Any = None
    environment: ClusterEnvironment | None = None
    launched: bool = True
    """Whether a launcher started all processes; else these are one of each node, and Lightning starts the others."""

    @property
    def first(self) -> bool:
        """Whether this process chooses and prepares for all."""
        return self.rank == 0

    def share(self, what: str, make: Callable[[], Value]) -> Value:
        """Return what rank 0 makes, plain JSON; the others wait for it.

        Raises ``UnisonoError`` in the others where rank 0 failed or let them wait for too long.
        """
        if self.store is None:
            return make()
        if self.first:
            try:
                made = make()
            except BaseException as error:
                self.store.set(what, json.dumps({"error": str(error) or type(error).__name__}))
                raise
            self.store.set(what, json.dumps({"made": made}))
            return made
        seconds = waiting_seconds()
        try:
            self.store.wait([what], timedelta(seconds=seconds))
            told = json.loads(self.store.get(what))
        except (RuntimeError, ValueError) as error:
            raise UnisonoError(
                f"rank {self.rank} waited {seconds:g} s for rank 0 to say {what!r}, in vain "
                f"({type(error).__name__}): see what rank 0 printed, or set {WAIT} to more seconds",
                code="limit",
                path=WAIT,
                value=seconds,
            ) from None
        if "error" in told:
            raise UnisonoError(
                f"rank 0 failed, so rank {self.rank} stops: {told['error']:.500}", code="failed", path=what
            )
        return told["made"]


def waiting_seconds() -> float:
    """Return for how long ranks wait for rank 0."""
    given = os.environ.get(WAIT, "7200")
    try:
        seconds = float(given)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e7:
        raise UnisonoError(
            f"{WAIT}={given!r:.40} must be a number of seconds above 0 and below 10000000",
            code="range",
            path=WAIT,
            value=given,
        )
    return seconds


def join_ranks(num_nodes: int = 1) -> Ranks:
    """Find the other processes that a launcher started, or those of other nodes where NODE_RANK tells of them.

    Raises ``UnisonoError`` for variables that do not fit together, and where nothing says which of ``num_nodes`` this
    one is.
    """
    if RUN_DIR in os.environ:
        return Ranks()
    environment = _environment()
    if environment is None:
        if (node := _node(num_nodes)) is None:
            return Ranks()
        environment = LightningEnvironment()
        return Ranks(node, num_nodes, _store(node, num_nodes, environment), environment, launched=False)
    if environment.world_size() == 1:
        return Ranks(environment=environment)
    rank, size = environment.global_rank(), environment.world_size()
    if not 0 <= rank < size:
        raise UnisonoError(
            f"rank {rank} of {size} processes: the launcher's RANK and WORLD_SIZE do not fit together",
            code="conflict",
            path="RANK",
            value=rank,
        )
    return Ranks(rank, size, _store(rank, size, environment), environment)


def _node(num_nodes: int) -> int | None:
    """Which node this is, where one process of each was started by hand; None on a single one."""
    given = os.environ.get("NODE_RANK", os.environ.get("GROUP_RANK"))
    if num_nodes == 1 and given in (None, "", "0"):
        return None
    if given is None or not given.isdecimal() or not int(given) < num_nodes:
        raise UnisonoError(
            f"trainer.num_nodes={num_nodes} and NODE_RANK={given}: start the nodes by torchrun, or set NODE_RANK (from "
            f"0 to {num_nodes - 1}), MASTER_ADDR and MASTER_PORT on each",
            path="NODE_RANK",
            value=given,
            code="missing" if given is None else "range",
        )
    missing = [key for key in ("MASTER_ADDR", "MASTER_PORT") if not os.environ.get(key)]
    if missing:
        raise UnisonoError(
            f"NODE_RANK={given} is set, and {' and '.join(missing)} not: give the address of node 0 and a free port of "
            "it on each node",
            path=missing[0],
            code="missing",
        )
    return int(given)


def _store(rank: int, size: int, environment: ClusterEnvironment) -> Any:
    """The store in which the processes meet."""
    agent = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    seconds = waiting_seconds()
    try:
        store = TCPStore(
            environment.main_address,
            environment.main_port,
            None if agent else size,
            is_master=rank == 0 and not agent,
            timeout=timedelta(seconds=seconds),
            wait_for_workers=False,
            multi_tenant=True,
        )
    except (RuntimeError, ValueError) as error:
        raise UnisonoError(
            f"rank {rank} of {size} cannot reach rank 0 at {environment.main_address}:{environment.main_port} "
            f"({type(error).__name__}): check MASTER_ADDR and MASTER_PORT, and that rank 0 runs",
            code="failed",
            path="MASTER_ADDR",
            value=f"{environment.main_address}:{environment.main_port}",
        ) from None
    restart = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    return PrefixStore(f"unisono/{restart}/{next(_calls)}", store)


def fitting_devices(trainer: Mapping[str, Any], ranks: Ranks, name: str) -> dict[str, Any]:
    """Return ``devices`` and ``num_nodes`` as the launcher started processes, where the recipe does not say them.

    Raises ``RecipeError`` where it says others.
    """
    if ranks.world_size == 1 or not ranks.launched:
        return {}
    environ = os.environ
    if isinstance(ranks.environment, SLURMEnvironment):
        nodes = int(environ.get("SLURM_NNODES", environ.get("SLURM_JOB_NUM_NODES", "1")))
        local = ranks.world_size // nodes
    else:
        local = int(environ.get("LOCAL_WORLD_SIZE", ranks.world_size))
        nodes = ranks.world_size // local
    devices, num_nodes = trainer.get("devices"), trainer.get("num_nodes")
    given = len(devices) if isinstance(devices, list) else devices
    if isinstance(given, str) and given.isdecimal():
        given = int(given)
    said = num_nodes if isinstance(num_nodes, int) else 1
    if given in (None, "auto", -1, "-1"):
        given = local
        said = nodes if said == 1 else said
    if given == local and said == 1:
        said = nodes
    if given * said != ranks.world_size:
        raise RecipeError(
            f"{name}: trainer.devices={devices} and trainer.num_nodes={num_nodes} make {given * said} processes, the "
            f"launcher started {ranks.world_size}: leave both out",
            path="trainer.devices",
            value=devices,
            code="value",
        )
    return {"devices": devices if isinstance(devices, list) else given, "num_nodes": said}


def _environment() -> ClusterEnvironment | None:
    if TorchElasticEnvironment.detect():
        return TorchElasticEnvironment()
    if "SLURM_NTASKS" in os.environ and SLURMEnvironment.detect():
        if "SLURM_PROCID" not in os.environ:
            return None
        try:
            return SLURMEnvironment()
        except RuntimeError as error:  # of Lightning, about variables of srun
            raise UnisonoError(" ".join(str(error).split()), code="conflict", path="SLURM_NTASKS") from None
    if int(os.environ.get("WORLD_SIZE", "1") or 1) > 1 and "RANK" in os.environ:
        missing = [key for key in ("MASTER_ADDR", "MASTER_PORT", "LOCAL_RANK") if key not in os.environ]
        if missing:
            raise UnisonoError(
                f"RANK and WORLD_SIZE={os.environ['WORLD_SIZE']} are set, and {', '.join(missing)} not: start the "
                "processes with torchrun, or unset RANK and WORLD_SIZE",
                code="missing",
                path=missing[0],
            )
        return TorchElasticEnvironment()  # reads the same variables, whoever set them
    return None
