"""The preset registry: knobs compose or are refused by name, and a row alone is the row in a batch."""

import pytest
import torch
import unisono.masked as um
from refused import refused
from unisono.errors import UnisonoError
from unisono.masked import PRESETS, Canvas, Layout, make_strategy
from unisono.masked.presets.registry import DRAW_KNOBS

V, Q = 5, 2
NEEDS = {
    "token_critic": {"critic": lambda tokens, known, query: tokens[..., None].double()},
    "halton": {"height": 2, "width": 3},
    "locality": {"sizes": (1, 2, 3)},
}
SETTINGS = {"num_steps": 3, "choice_temperature": 0.7, "threshold": 0.6, "tokens_per_step": 2}


def net(tokens, known, query):
    """Beliefs that depend on the position, and on what is known left of it: padding comes last and says nothing."""
    place = torch.arange(tokens.shape[1], dtype=torch.double)
    seen = torch.where(known, tokens + 1, 0).double()
    left = torch.nn.functional.pad(seen, (2, 0))
    token = torch.arange(V, dtype=torch.double)
    logits = 2 * torch.sin(1.3 * place[:, None] + (left[:, :-2] + 2 * left[:, 1:-1])[..., None] + 1.7 * token)
    return um.at_sites(logits, query)


def other(tokens, known, query):
    return net(tokens, torch.zeros_like(known), query)


def parts(warp):
    return [type(w).__name__ for w in (warp.warps if isinstance(warp, um.Chain) else (warp,))]


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_takes_the_knobs_of_the_draw_and_keeps_its_own_filters(name):
    layout = Layout.sequence(6, V)
    plain = make_strategy(name, layout, **NEEDS.get(name, {}))
    made = make_strategy(
        name, layout, temperature=0.7, top_k=3, top_p=0.9, min_p=0.1, typical_p=0.8, guidance_scale=2.0,
        unconditional=other, **NEEDS.get(name, {}),
    )  # fmt: skip
    assert type(made.draw) is um.Categorical and made.guide.guidance_scale == 2.0
    assert {"Temperature", "Nucleus", "MinP", "Typical"} <= set(parts(made.warp))
    assert parts(made.warp).count("Temperature") == 1
    own = plain.warp.warps if isinstance(plain.warp, um.Chain) else (plain.warp,)
    shares = [w for w in own if isinstance(w, um.TopTokens)]
    kept = made.warp.warps
    assert all(share in kept for share in shares) and um.TopTokens(k=3) in kept
    if name == "remdm":
        assert [w.p for w in kept if isinstance(w, um.Nucleus)] == [0.9]
    cold = make_strategy(name, layout, temperature=0, **NEEDS.get(name, {}))
    assert isinstance(cold.draw, um.Greedy) and isinstance(cold.warp, um.Keep)
    for knob in DRAW_KNOBS[1:]:
        with refused(UnisonoError, "conflict", knob, value=1, names="temperature 0"):
            make_strategy(name, layout, temperature=0, **{knob: 1}, **NEEDS.get(name, {}))


@pytest.mark.parametrize("name", PRESETS)
def test_a_setting_is_taken_or_refused_by_name(name):
    layout = Layout.sequence(6, V)
    for knob, value in SETTINGS.items():
        given = {**NEEDS.get(name, {}), knob: value}
        if knob in PRESETS[name].takes:
            plain, made = (make_strategy(name, layout, **fields) for fields in (NEEDS.get(name, {}), given))
            stages = [[repr(getattr(s, stage)) for stage in um.strategy.STAGES] for s in (plain, made)]
            assert any(a != b for a, b in zip(*stages, strict=True)), knob
        else:
            with refused(UnisonoError, "unsupported", knob, value=given[knob], names=[name, "guidance_scale"]):
                make_strategy(name, layout, **given)


def test_unknown_presets_and_missing_settings_are_named():
    with refused(UnisonoError, "unknown", "preset", value="maskgti", names="'maskgit'"):
        make_strategy("maskgti", Layout.sequence(3, V))
    with refused(UnisonoError, "missing", "sizes"):
        make_strategy("locality", Layout.sequence(3, V))
    with refused(UnisonoError, "conflict", "guidance_scale", value=3.0):
        um.with_guidance(um.llada(2, guidance_scale=2.0), 3.0)
    with refused(UnisonoError, "conflict", "top_k", value=2):
        make_strategy("llada", Layout.sequence(3, V), top_k=2)


@pytest.mark.parametrize("name", [name for name, preset in PRESETS.items() if not preset.whole_canvas])
def test_a_row_alone_is_the_row_in_a_batch(name):
    """Rows of 3, 40 and 70 frames of two streams; at 64 frames the order along time becomes another one."""
    lengths, seeds = [3 * Q, 40 * Q, 70 * Q], [11, 12, 13]

    def made(frames, rows):
        layout = (
            Layout.levels(frames, Q, V)
            if name in ("soundstorm", "momask")
            else Layout.streams(frames, [V] * Q, shared=True)
        )
        strategy = make_strategy(
            name, layout, guidance_scale=1.5, unconditional=other, temperature=0.8, **NEEDS.get(name, {})
        )
        canvas = Canvas.blank(layout, [seeds[i] for i in rows], [lengths[i] for i in rows])
        return um.decode(net, canvas, strategy).tokens

    together = made(70, [0, 1, 2])
    for row, length in enumerate(lengths):
        assert torch.equal(made(length // Q, [row])[0], together[row, :length]), row


def test_min_p_keeps_what_is_likely_beside_the_likeliest():
    p = torch.tensor([[[0.5, 0.25, 0.2, 0.05]]]).double()
    kept = [(um.MinP(x)(p.log(), None) > -torch.inf).sum().item() for x in (0.0, 0.09, 0.11, 0.41, 0.49, 0.51, 1.0)]
    assert kept == [4, 4, 3, 2, 2, 1, 1]


def test_guidance_of_one_scale_is_u_plus_s_times_c_minus_u():
    canvas = Canvas.blank(Layout.sequence(4, V), [1])
    planned = um.Plan(um.Even(4))(canvas, {})
    handle = um.Handle(net)
    c, u = net(canvas.tokens, canvas.known, None), net(canvas.tokens, canvas.known, None).flip(-1)
    flipped = lambda *args: net(*args).flip(-1)  # noqa: E731
    for scale in (0.0, 1.0, 1.5, 4.0):
        raw, guided = um.ClassifierFree(scale, flipped)(handle, canvas, planned, None)
        assert torch.equal(raw, c) and torch.allclose(guided, u + scale * (c - u), atol=1e-12)
    _, ramped = um.ClassifierFree(5.0, flipped, ramp=True)(handle, canvas, planned, None)  # a quarter of the way: 2
    assert torch.allclose(ramped, u + 2.0 * (c - u), atol=1e-12)
