"""What processes of a group check together: ``python -m sharded_cases CASE ARGUMENT…``, in each of them.

Tests start them by `together`; a case that fails ends its process, and the test shows what it printed.
"""

import os
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import torch
from lightning.fabric.plugins.environments.lightning import find_free_network_port
from lightning.pytorch import Callback
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.fsdp._fully_shard import _fsdp_param_group
from unisono.testing.processes import other_processes

CASES: dict[str, Callable[..., None]] = {}


def together(case: str, *arguments: str, count: int = 2) -> None:
    """Run a case in so many processes; raise ``CheckFailed`` where it fails in one."""
    group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(find_free_network_port()), "OMP_NUM_THREADS": "1"}
    ranks = [
        {**group, "NODE_RANK": "0", "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count), "RANK": str(rank)}
        for rank in range(count)
    ]
    modules = ("sharded_cases", "unisono.train", "unisono_text.models.mdlm", "unisono_text.corpus.data")
    other_processes([["sharded_cases", case, *arguments]] * count, ranks, modules=modules)


def case(function: Callable[..., None]) -> Callable[..., None]:
    CASES[function.__name__] = function
    return function


def rank() -> int:
    return int(os.environ["RANK"])


def net(sizes: tuple[int, ...] = (5, 7, 7, 3)) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(*(nn.Linear(a, b) for a, b in pairwise(sizes)))


@case
def norms_and_clipping() -> None:
    """Uneven shards, replicas and plain tensors have the norm that one process finds."""
    from unisono.train.strategies.norm import clip_by_norm, clip_by_value, gradient_norm

    torch.distributed.init_process_group("gloo")
    world = torch.distributed.get_world_size()
    whole, x = net(), torch.linspace(-1, 1, 20).view(4, 5)
    whole(x).square().sum().backward()
    expected = nn.utils.clip_grad_norm_(whole.parameters(), 1e9)
    meshes = [init_device_mesh("cpu", (world,))]
    meshes += [init_device_mesh("cpu", (2, world // 2), mesh_dim_names=("replicate", "shard"))]
    for mesh in meshes:
        model = net()
        plain = model[2]
        for layer in model[:2]:
            fully_shard(layer, mesh=mesh)
        model(x).square().sum().backward()  # every rank has the whole batch: the mean over ranks is its gradient
        parameters = list(model.parameters())
        torch.testing.assert_close(gradient_norm(parameters), expected, rtol=1e-6, atol=0)
        assert plain.weight.grad.shape == (3, 7)
        had = clip_by_norm(parameters, 0.5)
        torch.testing.assert_close(had, expected, rtol=1e-6, atol=0)
        torch.testing.assert_close(gradient_norm(parameters), torch.tensor(0.5), rtol=1e-5, atol=0)
        clip_by_value(parameters, 0.01)
        largest = max(float(p.grad.full_tensor().abs().max()) for p in model[:2].parameters())
        assert largest <= 0.01 + 1e-9


@case
def whole_and_sharded() -> None:
    """A state becomes shards and whole again to the bit, and ranks go their own ways on gathered weights."""
    from unisono.train.strategies.whole import gathered, is_sharded, load_whole, shard_like, whole_state

    torch.distributed.init_process_group("gloo")
    first = rank() == 0
    one, model = net(), net()
    for layer in model:
        fully_shard(layer)
    fully_shard(model)
    assert is_sharded(model) and not is_sharded(one)
    state = whole_state(model.state_dict(), first)
    assert state.keys() == (one.state_dict().keys() if first else set())
    assert all(torch.equal(value, one.state_dict()[name]) for name, value in state.items())
    other = {
        name: torch.randn(value.shape, generator=torch.Generator().manual_seed(1))
        for name, value in one.state_dict().items()
    }
    load_whole(model, other)
    one.load_state_dict(other)
    for weight, sharded in zip(one.parameters(), model.parameters(), strict=True):
        assert torch.equal(shard_like(weight.detach(), sharded).to_local(), sharded.to_local())
    x = torch.ones(2, 5)
    before = [id(p) for p in model.parameters()]
    with gathered(model), torch.no_grad():
        for _ in range(3 * rank() + 1):  # another number of steps on each
            assert torch.equal(model(x), one(x))
    assert [id(p) for p in model.parameters()] == before
    model(x).sum().backward()
    assert all(p.grad is not None for p in model.parameters())


class Counting(Callback):
    """Count the reductions of gradients that each batch asks for."""

    def __init__(self):
        self.counts: list[int] = []
        self.now = 0
        self.reduce = _fsdp_param_group.foreach_reduce

    def on_train_start(self, trainer, pl_module):
        def counted(*args, **kwargs):
            self.now += 1
            return self.reduce(*args, **kwargs)

        _fsdp_param_group.foreach_reduce = counted

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.counts.append(self.now)
        self.now = 0


class Poison(Callback):
    """Make one shard's gradient infinite in the second step, on the last rank alone."""

    def on_after_backward(self, trainer, pl_module):
        if trainer.global_step == 1 and trainer.global_rank == trainer.world_size - 1:
            pl_module.net.norm.weight.grad.to_local().fill_(float("inf"))


def run(folder: str, *flags: str, callbacks=(), **kwargs):
    """Train text/mdlm-tiny in this process of the group."""
    from unisono.recipe import Recipe
    from unisono.train import train
    from unisono.train.ranks import RUN_DIR

    os.environ[RUN_DIR] = str(Path(folder) / "run")
    world = os.environ["WORLD_SIZE"]
    for name in ("RANK", "WORLD_SIZE"):
        os.environ.pop(name)
    quiet = ("--trainer.enable_model_summary=false", "--run.preview_seconds=0", f"--trainer.devices={world}")
    return train(Recipe.read("text/mdlm-tiny", [*quiet, *flags]), progress=False, callbacks=callbacks, **kwargs)


@case
def accumulation_waits(folder: str) -> None:
    """No gradient is sent before the last batch of a step."""
    counting = Counting()
    run(folder, "--trainer.strategy=fsdp2", "--trainer.accumulate_grad_batches=2", callbacks=[counting])
    assert len(counting.counts) == 4, counting.counts
    assert counting.counts[0] == counting.counts[2] == 0 and counting.counts[1] == counting.counts[3] > 0


@case
def finite_over_shards(folder: str) -> None:
    """A gradient that is infinite in another rank's shard stops all ranks, and each names the parameter."""
    from unisono.train.finite import NonFiniteError

    try:
        run(folder, "--trainer.strategy=fsdp2", callbacks=[Poison()])
    except NonFiniteError as error:
        assert error.step == 1 and error.parts == ["net.norm.weight"], (error.step, error.parts)
    else:
        raise AssertionError("it went on")


@case
def finite_skips(folder: str) -> None:
    """The same step is left out on all ranks, and counted."""
    result = run(folder, "--trainer.strategy=fsdp2", "--run.skip_nonfinite=true", callbacks=[Poison()])
    assert result.skipped == 1


@case
def an_object(folder: str) -> None:
    """A strategy as an object of Lightning's, and a profiler."""
    from lightning.pytorch.profilers import SimpleProfiler
    from lightning.pytorch.strategies import DDPStrategy

    profiler = SimpleProfiler()
    run(folder, strategy=DDPStrategy(static_graph=True), profiler=profiler)
    assert any("optimizer_step" in action for action in profiler.recorded_durations)


@case
def sharded_states(folder: str, steps: str, resume: str = "") -> None:
    """Train on shards of weights, and keep states beside training; go on from a state."""
    from unisono.train.ranks import RUN_STATE

    os.environ[RUN_STATE] = resume
    given = ("--run.checkpoint.every=1", "--run.checkpoint.asynchronous=true", f"--trainer.max_steps={steps}")
    run(folder, "--trainer.strategy=fsdp2", *given)


if __name__ == "__main__":
    module = sys.modules.get("sharded_cases")
    cases = module.CASES if module is not None else CASES
    cases[sys.argv[1]](*sys.argv[2:])
