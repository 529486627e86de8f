"""Values of the wrong kind: each is one sentence, never another library's error, a loop without end, or a NaN."""

import pytest
import torch
import unisono.masked as um
from unisono.errors import UnisonoError
from unisono.masked import Canvas, Layout
from unisono.verify import Draw, KVCache, NGram, Prefix, PreviousIterate, TopAgree, Typical
from unisono.verify.propose import DraftModel

WHOLE = {
    "steps": um.Scheduled,
    "even": um.Even,
    "fixed": um.Fixed,
    "sizes": lambda x: um.Sizes((1, x)),
    "proportional": lambda x: um.Proportional(x, 4),
    "per": lambda x: um.Proportional(4, x),
    "maskgit": um.maskgit,
    "soundstorm": lambda x: um.soundstorm((x, 1)),
    "top": lambda x: um.TopTokens(k=x),
    "suppress": lambda x: um.Suppress((x,)),
    "patience": lambda x: um.KLStable(patience=x),
    "fallback": lambda x: um.Fallback(um.Threshold(0.5), x),
    "rounds": um.Correct,
    "size": lambda x: um.Correct(1, x),
    "codes": um.ArithmeticCodes,
    "halton": lambda x: um.halton_order(x, 2),
    "locality": lambda x: um.locality_aware(Layout.sequence(3, 2), (1, x)),
    "blocks": lambda x: Layout.blocks(4, x, 2),
    "length": lambda x: Layout.sequence(x, 2),
    "vocabulary": lambda x: Layout.sequence(4, x),
    "grid": lambda x: Layout.grid(x, 2, 2),
    "refresh": um.Delayed,
    "max_steps": lambda x: um.decode(None, Canvas.blank(Layout.sequence(2, 2), [0]), um.maskgit(2), max_steps=x),
    "max_length": lambda x: Prefix.of(torch.zeros(1, 1, dtype=torch.int64), x, [0]),
    "ngram": NGram,
    "longest": lambda x: NGram(2, x),
    "draft": lambda x: DraftModel(lambda *_: None, x),
    "block": PreviousIterate,
    "agree": TopAgree,
    "cache": KVCache,
}
REAL = {
    "temperature": um.Temperature,
    "temperatures": lambda x: um.Temperature((1.0, x)),
    "choice": lambda x: um.maskgit(4, choice_temperature=x),
    "nucleus": um.Nucleus,
    "typical": um.Typical,
    "share": lambda x: um.TopTokens(share=x),
    "threshold": um.Threshold,
    "factor": um.Factor,
    "slack": um.Frechet,
    "gamma": um.EntropyBound,
    "epsilon": um.KLStable,
    "confidence": lambda x: um.KLStable(confidence=x),
    "eta": lambda x: um.remdm(4, eta=x),
    "edit": um.Edit,
    "min_time": lambda x: um.Diffusion(min_time=x),
    "clip": lambda x: um.BlockDiffusion(clip=(x, 1.0)),
    "glancing": um.Glancing,
    "weights": lambda x: um.PlanMasking(um.Plan(um.Even(1)), (1.0, x)),
    "guidance": lambda x: um.ClassifierFree(x),
    "rescale": lambda x: um.ClassifierFree(1.0, rescale=x),
    "opinion": lambda x: um.Autoregressive(None, x),
    "exponent": um.power,
    "draw": Draw,
    "accept": Typical,
    "delta": lambda x: Typical(delta=x),
}


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("value", [2.5, "x", True, None, -3, float("nan"), 2.0])
def test_a_whole_number_is_asked_for(name, value):
    if value is None and name in ("fallback", "max_steps", "block"):
        return  # None has a meaning there
    with pytest.raises(UnisonoError):
        WHOLE[name](value)


@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize("value", ["x", float("nan"), float("inf"), None, True])
def test_a_finite_number_is_asked_for(name, value):
    if value is None and name == "eta":
        return
    with pytest.raises(UnisonoError):
        REAL[name](value)
