"""Speed: compiled or computed again, the results, names and random choices are what they were."""

import copy
import os
import shutil
from types import SimpleNamespace

import pytest
import torch
from refused import refused
from torch import nn
from unisono.errors import RecipeError
from unisono.nn.convnext import ConvNeXtBlock
from unisono.nn.transformer import Block
from unisono.recipe import Recipe
from unisono.switches import ActivationCheckpointing, Compile
from unisono.train import speed, train
from unisono.train.callbacks.flops import CountFlops, Flops, arithmetic, peak_rate
from unisono.train.speed import blocks, counted, saved_bytes, slow_down, speed_up

DIM, HEADS, LAYERS = 16, 2, 3
# Dynamo looks at the gradients of inputs, and hides torch's warning of that in a way that an error passes by.
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")


class Net(nn.Module):
    """Blocks of two kinds, and what is no block."""

    training_only = ("discriminators.",)

    def __init__(self, dropout=0.0, layers=LAYERS):
        super().__init__()
        self.blocks = nn.ModuleList(Block(DIM, HEADS, dropout) for _ in range(layers))
        self.tail = nn.Sequential(*(ConvNeXtBlock(DIM, 2 * DIM, 3, dropout=dropout) for _ in range(2)))
        self.norms = nn.ModuleList(nn.LayerNorm(DIM) for _ in range(3))
        self.discriminators = nn.ModuleList(ConvNeXtBlock(DIM, DIM) for _ in range(2))

    def forward(self, x, mask):
        for block in self.blocks:
            x = block(x, mask)
        return self.norms[0](self.tail(x)).square().mean()


@pytest.fixture
def net():
    torch.manual_seed(0)
    return Net()


@pytest.fixture
def inputs():
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(2, 7, DIM, generator=draw)
    return x, torch.arange(7) < torch.tensor([[7], [5]])


@pytest.fixture(autouse=True)
def fresh_compiler():
    yield
    torch._dynamo.reset()
    speed._class.cache_clear()


def step(model, inputs, seed=3):
    """Return loss and gradients of a training step with given noise, and where it leaves the noise."""
    torch.manual_seed(seed)
    loss = model(*inputs)
    loss.backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return loss.detach(), gradients, torch.rand(3)


def same(one, other, **tolerance):
    torch.testing.assert_close(one[0], other[0], **tolerance)
    assert one[1].keys() == other[1].keys()
    for name, value in one[1].items():
        torch.testing.assert_close(value, other[1][name], **tolerance)
    assert torch.equal(one[2], other[2])


EXACT = {"rtol": 0, "atol": 0}


# ---- which blocks ------------------------------------------------------------------------------


def test_repeated_blocks_are_found_and_nothing_else(net):
    assert list(blocks(net, "run.compile")) == ["blocks.0", "blocks.1", "blocks.2", "tail.0", "tail.1"]


def test_a_model_says_where(net):
    net.regions = ("tail.*",)
    assert list(blocks(net, "run.compile")) == ["tail.0", "tail.1"]
    assert list(speed.regions(net, ("blocks", "blocks.1"))) == ["blocks"]


def test_blocks_with_a_state_of_their_own_are_left_out():
    class Normed(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm1d(DIM)

        def forward(self, x):
            return self.norm(x)

    alone = nn.Sequential(Normed(), Normed())
    with refused(RecipeError, "unsupported", "run.activation_checkpointing", names="Sequential"):
        blocks(alone, "run.activation_checkpointing")
    alone.regions = ("0", "1")  # declared all the same: found at the first step
    speed_up(alone, False, True)
    with refused(RecipeError, "unsupported", "run.activation_checkpointing", value="Normed", names="norm."):
        alone(torch.randn(3, DIM, requires_grad=True))


def test_what_was_done_is_told_and_undone(net):
    classes = [type(m) for m in net.modules()]
    names = list(net.state_dict())
    told = speed_up(net, Compile(backend="eager"), ActivationCheckpointing(every=2))
    assert told == "compiled: 3 Block, 2 ConvNeXtBlock; activations computed again: 2 Block, 1 ConvNeXtBlock"
    assert isinstance(net.blocks[0], Block) and type(net.blocks[0]).__name__ == "Block"
    assert type(net.blocks[0]) is type(net.blocks[2]) is not type(net.blocks[1])
    assert list(net.state_dict()) == names and not any("_orig_mod" in name for name in names)
    assert [name for name, _ in net.named_modules()] == [name for name, _ in Net().named_modules()]
    slow_down(net)
    assert [type(m) for m in net.modules()] == classes
    assert speed_up(net, False, False) is None


# ---- computed again ----------------------------------------------------------------------------


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("every", [1, 2])
def test_activations_computed_again_change_no_bit(inputs, dropout, every):
    torch.manual_seed(0)
    plain = Net(dropout)
    again = copy.deepcopy(plain)
    speed_up(again, False, ActivationCheckpointing(every))
    same(step(plain, inputs), step(again, inputs), **EXACT)


def test_a_copy_computes_with_its_own_weights(net, inputs):
    speed_up(net, Compile(backend="eager"), True)
    twin = copy.deepcopy(net)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.mul_(0.5)
    assert not torch.equal(step(net, inputs)[0], step(twin, inputs)[0])


def test_less_is_kept_for_the_backward_pass(inputs):
    """Of each block its input, instead of all that is within."""

    def kept(layers, again):
        model = Net(layers=layers)
        speed_up(model, False, again)
        with saved_bytes() as told:
            model(*inputs)
        return told["bytes"]

    per_block = kept(6, False) - kept(5, False)
    per_block_again = kept(6, True) - kept(5, True)
    x, _ = inputs
    assert per_block_again == x.nbytes
    assert per_block > 10 * per_block_again


def test_nothing_is_kept_or_compiled_outside_of_training(net, inputs):
    compiled = []

    def backend(graph, example_inputs):
        compiled.append(graph)
        return graph.forward

    expected = net.eval()(*inputs)
    torch._dynamo.register_backend(backend, name="counting_backend")
    speed_up(net, Compile(backend="counting_backend"), True)
    assert torch.equal(net(*inputs), expected)
    with torch.inference_mode():
        assert torch.equal(net.train()(*inputs), expected)
    assert not compiled
    net(inputs[0].requires_grad_(), inputs[1])
    assert len(compiled) == 2  # one for each kind of block, not for each of five
    torch._dynamo.backends.registry._COMPILER_FNS.pop("counting_backend", None)


# ---- compiled ----------------------------------------------------------------------------------


@pytest.mark.parametrize("again", [False, True])
def test_compiled_blocks_give_the_same(inputs, again):
    torch.manual_seed(0)
    plain = Net()
    faster = copy.deepcopy(plain)
    speed_up(faster, Compile(backend="aot_eager"), again)
    same(step(plain, inputs), step(faster, inputs), rtol=1e-5, atol=1e-7)


def test_dropout_of_compiled_blocks_is_the_same_when_computed_again(inputs):
    torch.manual_seed(0)
    one = Net(0.3)
    other = copy.deepcopy(one)
    speed_up(one, Compile(backend="aot_eager"), False)
    speed_up(other, Compile(backend="aot_eager"), True)
    same(step(one, inputs), step(other, inputs), rtol=1e-5, atol=1e-7)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
def test_inductor_gives_the_same(inputs):
    torch.manual_seed(0)
    plain = Net()
    faster = copy.deepcopy(plain)
    speed_up(faster, True, True)
    same(step(plain, inputs), step(faster, inputs), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("spec", "code", "path"),
    [
        (Compile(backend="inducter"), "unknown", "run.compile.backend"),
        (Compile(backend="eager", regions=("blocks.*", "bloks.*")), "unknown", "run.compile.regions"),
    ],
)
def test_what_is_not_there_is_refused(net, spec, code, path):
    with refused(RecipeError, code, path, names="did you mean"):
        speed_up(net, spec, False)


def test_a_missing_compiler_is_told(net, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    with refused(RecipeError, "dependency", "run.compile", names="C++ compiler"):
        speed_up(net, True, False)
    monkeypatch.setattr(speed, "find_spec", lambda name: None)
    with refused(RecipeError, "dependency", "run.compile", names="triton"):
        speed_up(net, True, False, "cuda")


@pytest.mark.skipif(os.name == "nt", reason="names of compilers")
def test_the_chosen_compiler_is_looked_for(net, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler -O2")
    with refused(RecipeError, "dependency", "run.compile", names="no-such-compiler"):
        speed_up(net, True, False)


# ---- a run -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["codec/vocos-tiny", "codec/vocos-gan-tiny"])
def test_a_run_with_both_equals_one_without(tmp_path, name):
    """One loss, and two players with steps of their own."""
    states = []
    for index, own in enumerate(
        ([], ["--run.compile={backend: eager}", "--run.activation_checkpointing=true", "--run.logger=none"])
    ):
        overrides = [f"--run.dir={tmp_path / str(index)}", "--run.preview_seconds=0", "--trainer.max_steps=4", *own]
        result = train(Recipe.read(name, overrides), progress=False)
        assert result is not None
        assert all(speed._PLAIN not in type(module).__dict__ for module in result.model.modules())
        states.append(torch.load(result.folder / "checkpoints/last.ckpt", weights_only=True)["state_dict"])
    assert states[0].keys() == states[1].keys()
    for key, value in states[0].items():
        assert torch.equal(value, states[1][key]), key


@pytest.mark.parametrize(
    ("override", "code", "path"),
    [
        ("compile.mode=fast", "unknown", "run.compile.mode"),
        ("compile=inductor", "type", "run.compile"),
        ("compile.region=[x]", "unknown", "run.compile.region"),
        ("activation_checkpointing.every=0", "range", "run.activation_checkpointing.every"),
        ("activation_checkpointing=2", "type", "run.activation_checkpointing"),
    ],
)
def test_wrong_switches_are_refused(override, code, path):
    with refused(RecipeError, code, path):
        Recipe.read("codec/vocos-tiny", [f"--run.{override}"])


# ---- operations --------------------------------------------------------------------------------


def flops_of(model, inputs):
    mode = CountFlops()
    with counted(mode.paused), mode:
        model(*inputs).backward()
    return mode.total


def block_flops(b, t, d, expansion=4):
    """By hand: projections 4 · d² and feed-forward 2 · expansion · d² per position, scores and sums 2 · t · d."""
    per_position = 2 * (4 + 2 * expansion) * d * d + 2 * 2 * t * d
    return b * t * per_position


def test_a_block_takes_what_a_hand_counts():
    """The backward pass takes twice the forward; attention makes its scores there once more."""

    class One(nn.Module):
        def __init__(self):
            super().__init__()
            self.blocks = nn.ModuleList(Block(64, 4, 0.0) for _ in range(2))

        def forward(self, x, mask):
            for block in self.blocks:
                x = block(x, mask)
            return x.sum()

    x, mask = torch.randn(2, 16, 64, requires_grad=True), torch.ones(2, 16, dtype=torch.bool)
    model = One()
    assert flops_of(model, (x, mask)) == 2 * (3 * block_flops(2, 16, 64) + 2 * 2 * 16 * 16 * 64)
    again = One()
    speed_up(again, Compile(backend="eager"), True)
    assert flops_of(again, (x, mask)) == flops_of(model, (x, mask))  # what is repeated does not count


def test_counting_is_that_of_torch(net, inputs):
    from torch.utils.flop_counter import FlopCounterMode

    plain = copy.deepcopy(net)
    with FlopCounterMode(display=False) as theirs:
        plain.tail(inputs[0]).sum().backward()
    mode = CountFlops()
    with mode:
        net.tail(inputs[0]).sum().backward()
    assert mode.total == theirs.get_total_flops() > 0


def test_a_counted_step_changes_no_bit(net, inputs):
    twin = copy.deepcopy(net)
    with CountFlops():
        one = step(net, inputs)
    same(one, step(twin, inputs), **EXACT)


def test_each_size_of_batch_is_counted_once(net, inputs):
    flops = Flops()
    trainer = SimpleNamespace()
    x, _ = inputs
    counted_steps = []
    for length in (7, 7, 3, 7, 3):
        batch = {"x": x[:, :length], "row": torch.arange(2)}
        flops.on_train_batch_start(trainer, net, batch, 0)
        counted_steps.append(flops.counting)
        net.tail(batch["x"]).sum().backward()
        flops.on_train_batch_end(trainer, net, None, batch, 0)
    assert counted_steps == [True, False, True, False, False]
    whole, short = (flops.of({"x": x[:, :length], "row": torch.arange(2)}) for length in (7, 3))
    assert whole > short > 0
    assert flops.of({"x": torch.zeros(2, 70, DIM)}) == pytest.approx(10 * whole, rel=0.02)  # by its elements


@pytest.mark.parametrize(
    ("name", "dtype", "rate"),
    [
        ("NVIDIA H200", "bf16", 989e12),
        ("NVIDIA H200 NVL", "bf16", 836e12),
        ("NVIDIA H100 80GB HBM3", "bf16", 989e12),
        ("NVIDIA H100 PCIe", "bf16", 756e12),
        ("NVIDIA A100-SXM4-80GB", "tf32", 156e12),
        ("NVIDIA L4", "bf16", 121e12),
        ("NVIDIA L40S", "bf16", 362e12),
        ("Tesla T4", "bf16", None),
        ("NVIDIA L40", "bf16", None),
        ("NVIDIA GB200", "bf16", None),
        ("A device of tomorrow", "bf16", None),
    ],
)
def test_no_peak_is_made_up(name, dtype, rate):
    assert peak_rate(name, dtype) == rate


def test_the_arithmetic_is_that_of_the_precision(monkeypatch):
    assert [arithmetic(p) for p in ("bf16-mixed", "16-true", "64-true")] == ["bf16", "fp16", "fp64"]
    monkeypatch.setattr("torch.get_float32_matmul_precision", lambda: "high")
    assert arithmetic("32-true") == "tf32"
    monkeypatch.setattr("torch.get_float32_matmul_precision", lambda: "highest")
    assert arithmetic("32-true") == "fp32"
