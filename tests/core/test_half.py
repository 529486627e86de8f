"""Whole models in half precision: layers, quantisers and samplers of `model.bfloat16()` and `model.half()`."""

from copy import deepcopy

import pytest
import torch
import unisono.masked as um
import unisono.verify as uv
from refused import refused
from torch import nn
from unisono.diffusion import ParallelGRU
from unisono.duration import Aligner, LearnedUpsampling, search
from unisono.errors import UnisonoError
from unisono.nn.captions import SmallTextEncoder
from unisono.nn.convnext import ConvNeXtBlock
from unisono.nn.fft import FFTSizes, FFTStack
from unisono.nn.quantize import (
    FactorisedQuantizer,
    FactorisedResidualQuantizer,
    GroupedQuantizer,
    ResidualQuantizer,
    ScalarQuantizer,
    VectorQuantizer,
)
from unisono.nn.temporal import TemporalPredictor
from unisono.nn.transformer import Block

HALF = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bfloat16", "float16"])
MASK = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
SRC, TGT = torch.tensor([5, 3]), torch.tensor([7, 6])
X = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(1))
FRAMES = torch.randn(2, 7, 4, generator=torch.Generator().manual_seed(2))

LAYERS = {
    "predictor": (lambda: TemporalPredictor(8, 16), lambda m, x: m(x, MASK)),
    "stack": (
        lambda: FFTStack(1, FFTSizes(dim=8, num_heads=2, head_dim=4, filter_dim=16, norm_first=True)),
        lambda m, x: m(x, MASK),
    ),
    "convnext": (lambda: ConvNeXtBlock(8, 16), lambda m, x: m(x, MASK)),
    "block": (lambda: Block(8, 2, cross=True), lambda m, x: m(x, MASK, x, MASK)),
    "captions": (lambda: SmallTextEncoder(["a", "b"], 8, 1, 2), lambda m, x: m.read(["a b c", "b"])[2]),
    "aligner": (lambda: Aligner(8, 4, 6), lambda m, x: m(x, FRAMES.to(x.dtype), SRC, TGT)),
    "upsampling": (lambda: LearnedUpsampling(8), lambda m, x: m(x, torch.full((2, 5), 1.5), SRC)[0]),
    "gru": (lambda: ParallelGRU(nn.GRU(8, 6)), lambda m, x: m(x)[0]),
}


@HALF
@pytest.mark.parametrize("name", LAYERS)
def test_layers_in_half_precision_are_near_those_in_full(name, dtype):
    make, run = LAYERS[name]
    torch.manual_seed(0)
    half = make().eval().to(dtype)
    with torch.no_grad():
        found, expected = run(half, X.to(dtype)), run(deepcopy(half).float(), X)
    error = (found.float() - expected).norm() / expected.norm()
    assert error < (0.05 if dtype == torch.bfloat16 else 0.01)


QUANTIZERS = {
    "vector": lambda: VectorQuantizer(8, 6),
    "factorised": lambda: FactorisedQuantizer(8, 6, 3),
    "scalar": lambda: ScalarQuantizer(8, [5, 4]),
    "residual": lambda: ResidualQuantizer(8, 6, 3),
    "factorised residual": lambda: FactorisedResidualQuantizer(8, 6, 3, 3),
    "grouped": lambda: GroupedQuantizer([ResidualQuantizer(4, 6, 2), ResidualQuantizer(4, 6, 2)]),
}


@HALF
@pytest.mark.parametrize("name", QUANTIZERS)
def test_codes_in_half_precision_are_chosen_in_float32(name, dtype):
    """The first level's tokens are those of the same codes in float32, of vectors of either type; vectors are half."""
    torch.manual_seed(0)
    half = QUANTIZERS[name]().eval().to(dtype)
    whole = deepcopy(half).float()
    for z in (X, X.to(dtype)):
        made = half(z, MASK)
        assert torch.equal(made.tokens[..., 0], whole(z.float(), MASK).tokens[..., 0])
        assert torch.equal(half.tokens(z, MASK)[..., 0], made.tokens[..., 0])
        assert made.vectors.dtype == half.decode(made.tokens).dtype == dtype
        assert made.commitment.dtype == torch.float32


@HALF
@pytest.mark.parametrize("name", [name for name in QUANTIZERS if name != "scalar"])
def test_codes_in_half_precision_refuse_to_learn(name, dtype):
    quantizer = QUANTIZERS[name]().to(dtype).train()
    before = deepcopy(quantizer.state_dict())
    with refused(UnisonoError, "unsupported", "dtype", value=dtype, names=str(dtype)):
        quantizer(X.to(dtype), MASK)
    assert all(torch.equal(value, before[key]) for key, value in quantizer.state_dict().items())


STRATEGIES = [
    um.maskgit(3), um.llada(3, 1.0), um.mdlm(3), um.entropy_bounded(), um.kl_stable(), um.fast_dllm(), um.frechet(),
    um.credit(), um.remdm(3, "conf"), um.arpg(3), um.dream(3, nucleus=0.8), um.vampnet(3), um.maskgct(3),
]  # fmt: skip


@HALF
@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda s: s.name)
def test_samplers_read_logits_in_half_precision(strategy, dtype):
    """Tokens are those of the same logits in float32: every stage widens what it reads."""
    table = torch.randn(6, 7, generator=torch.Generator().manual_seed(3)).to(dtype)

    def tokens(table):
        def model(tokens, known, query):
            return table.expand(len(tokens), -1, -1) if query is None else table[query]

        return um.decode(model, um.Canvas.blank(um.Layout.sequence(6, 7), [1, 2]), strategy).tokens

    assert torch.equal(tokens(table), tokens(table.float()))


@HALF
def test_verification_reads_logits_in_half_precision(dtype):
    table = torch.randn(9, 9, generator=torch.Generator().manual_seed(4)).to(dtype)
    prompt = torch.tensor([[1, 2]])

    def tokens(table, make):
        network = lambda tokens, positions, visible, cache: table[tokens]  # noqa: E731
        return uv.decode(network, prompt, make(network), 9, seeds=[1], temperature=1.0).tokens

    for make in (
        lambda _: uv.autoregressive(), lambda _: uv.jacobi(), lambda _: uv.ngram(),
        lambda network: uv.speculative(network, 2), lambda network: uv.coupled_speculative(network, 2),
    ):  # fmt: skip
        assert torch.equal(tokens(table, make), tokens(table.float(), make))


@HALF
def test_scores_in_half_precision_are_searched(dtype):
    scores = torch.randn(2, 7, 5, generator=torch.Generator().manual_seed(5)).to(dtype)
    assert torch.equal(search(scores, SRC, TGT), search(scores.float(), SRC, TGT))
