"""Options away from their neutral value: schedules, counts, guides, revisions and presets, worked out by hand."""

import math
from dataclasses import replace

import pytest
import torch
import unisono.masked as um
from unisono.masked import Canvas, Handle, Layout, StepContext
from unisono.masked.stages.schedules import SCHEDULES, power

# ------------------------------------------------------------------ schedules and counts

SHARES = {
    "linear": 3 / 4,
    "cosine": math.cos(math.pi / 8),
    "square": 15 / 16,
    "cubic": 63 / 64,
    "square_root": 1 / 2,
    "arccos": 1 - 2 * math.asin(1 / 4) / math.pi,
    "logarithmic": 1 / 2,  # log 4 / log 16
    "exponential": 7 / 8,  # 1 − 16^(−3/4)
}
"""What each schedule keeps of 16 positions after a quarter of the steps."""


def test_every_schedule_by_hand():
    assert set(SHARES) == set(SCHEDULES)
    quarter, sixteen = torch.tensor([0.25], dtype=torch.float64), torch.tensor([16.0], dtype=torch.float64)
    for name, schedule in SCHEDULES.items():
        assert float(schedule(quarter, sixteen)) == pytest.approx(SHARES[name], abs=1e-6), name
    assert float(power(2.5)(quarter, sixteen)) == pytest.approx(31 / 32)


def counts(count, total):
    """What a plan commits in each step, from the left, and how far along it says that it is."""
    canvas, plan, memo, taken, progress = Canvas.blank(Layout.sequence(total, 3), [1]), um.Plan(count), {}, [], []
    while bool(canvas.masked.any()):
        planned = plan(canvas, memo)
        taken.append(int(planned.count))
        progress.append(float(planned.progress))
        chosen = planned.window & (planned.window.cumsum(1) <= planned.count[:, None])
        canvas = canvas.commit(chosen, canvas.tokens)
    return taken, progress


@pytest.mark.parametrize(
    ("count", "total", "taken"),
    [
        (um.Even(4), 10, [3, 3, 2, 2]),
        (um.Even(4), 8, [2, 2, 2, 2]),
        (um.Fixed(4), 10, [4, 4, 2]),
        (um.Sizes((1, 2, 3)), 10, [1, 2, 7]),
        (um.Scheduled(4, um.linear), 10, [3, 2, 3, 2]),  # 7.5, 5 and 2.5 are kept, rounded down
        (um.Proportional(3, 4, um.linear), 6, [2, 1, 1, 1, 1]),  # 4.5 steps are 5
        (um.Proportional(3, 4, um.linear), 5, [2, 1, 1, 1]),  # 3.75 steps are 4
        (um.Proportional(1, 9, um.linear), 4, [4]),  # never less than one
    ],
)
def test_counts_by_hand(count, total, taken):
    found, progress = counts(count, total)
    assert found == taken
    assert progress == pytest.approx([(i + 1) / len(taken) for i in range(len(taken))])


@pytest.mark.parametrize(
    ("count", "total", "taken"),
    [
        (um.Even(9), 3, [1, 1, 1]),
        (um.Scheduled(9), 3, [1, 1, 1]),
        (um.Scheduled((9, 1)), 3, [1, 1, 1]),
        (um.Scheduled(torch.tensor([9])), 3, [1, 1, 1]),
        (um.Scheduled(9, um.linear), 1, [1]),
        (um.Scheduled(9, power(0.25)), 6, [4, 1, 1]),  # 2.54, 1.88, 1.44 … are kept: 2, 1 and then the last
        (um.Proportional(3, 1), 2, [1, 1]),  # 6 steps
        (um.Sizes((3, 1, 2, 2)), 4, [3, 1]),
    ],
)
def test_progress_ends_at_1_in_the_last_step_that_is_run_however_many_were_asked(count, total, taken):
    found, progress = counts(count, total)
    assert found == taken
    assert progress == [(i + 1) / len(taken) for i in range(len(taken))]


@pytest.mark.parametrize("schedule", [*SCHEDULES.values(), power(0.2), power(9.0)])
def test_progress_of_every_schedule_counts_the_steps_that_are_run(schedule):
    for num_steps in (1, 2, 5, 13, 40):
        for total in (1, 2, 3, 7, 12, 20):
            found, progress = counts(um.Scheduled(num_steps, schedule), total)
            assert progress == [(i + 1) / len(found) for i in range(len(found))], (num_steps, total)


def test_progress_is_each_rows_own():
    """Rows of 1, 3 and 6 masks with 2, 9 and 4 steps: 1, 3 and 4 are run."""
    canvas = Canvas.blank(Layout.sequence(6, 3), [1, 2, 3], [1, 3, 6])
    planned = um.Plan(um.Scheduled(torch.tensor([2, 9, 4]), um.linear))(canvas, {})
    assert planned.progress.tolist() == [1.0, 1 / 3, 1 / 4]


@pytest.mark.parametrize("num_steps", [3, 5, 50])
def test_an_annealed_temperature_is_0_in_the_last_evaluation(num_steps):
    """Every token is 0 with logit 1 in the last evaluation, whatever is drawn in those before."""
    temperatures, total = [], 5

    def warp(logits, planned):
        temperatures.append(float(8 * (1 - planned.progress)))
        return um.Temperature(8.0, anneal=True)(logits, planned)

    def model(tokens, known, query):
        return torch.tensor([1.0, 0.0]).expand(*tokens.shape, 2)

    strategy = um.Strategy(um.Plan(um.Scheduled(num_steps, um.linear)), um.Rank(torch.arange(total)), warp=warp)
    last = set()
    for seed in range(1, 40):
        temperatures.clear()
        done = um.decode(model, Canvas.blank(Layout.sequence(total, 2), [seed]), strategy)
        run = min(num_steps, total)
        assert temperatures == pytest.approx([8 * (1 - (i + 1) / run) for i in range(run)])
        last.add(int(done.tokens[0, -1]))
    assert last == {0}


# ------------------------------------------------------------------ warps


def test_another_temperature_leaves_greedy_groups_greedy():
    assert um.Temperature((0.7, 0.0, 1.0)).at(2.0).value == (2.0, 0.0, 2.0)
    assert um.Temperature(0.7, anneal=True).at(2.0) == um.Temperature(2.0, anneal=True)


def test_min_p_keeps_what_is_exactly_p_times_as_likely():
    logits = torch.tensor([[[0.0, math.log(0.5), math.log(0.49)]]], dtype=torch.float64)
    kept = um.MinP(0.5)(logits, planned_of(Canvas.blank(Layout.sequence(1, 3), [1])))
    assert (kept > -torch.inf).tolist() == [[[True, True, False]]]


# ------------------------------------------------------------------ guides

CONDITIONED, BARE = torch.tensor([1.0, 0.0, -2.0]), torch.tensor([0.0, 0.5, -1.0])


def answers(logits):
    return lambda tokens, known, query: logits.expand(*tokens.shape, -1)


def planned_of(canvas, step=0, steps=4):
    planned = um.Plan(um.Everything(steps))(canvas, {})
    return replace(planned, step=torch.full_like(planned.step, step))


def test_guidance_grows_with_progress_and_is_rescaled_by_a_share():
    canvas = Canvas.blank(Layout.sequence(2, 3), [1])
    handle, planned = Handle(answers(CONDITIONED)), planned_of(canvas, step=0)

    def guided(**options):
        ranked, drawn = um.ClassifierFree(3.0, answers(BARE), **options)(handle, canvas, planned, None)
        expected = drawn if options.get("scores") else CONDITIONED.expand(1, 2, -1)
        assert torch.equal(ranked, expected)
        return drawn[0, 0]

    whole = CONDITIONED + 2 * (CONDITIONED - BARE)
    torch.testing.assert_close(guided(), whole)
    torch.testing.assert_close(guided(scores=True), whole)
    torch.testing.assert_close(guided(ramp=True), CONDITIONED + 2 / 4 * (CONDITIONED - BARE))  # a quarter is done
    ratio = CONDITIONED.std() / whole.std()
    torch.testing.assert_close(guided(rescale=0.25), whole * (0.75 + 0.25 * ratio))


def test_guidance_without_another_model_hides_the_prompt_and_not_the_padding():
    seen = []

    def model(tokens, known, query):
        seen.append((tokens.tolist(), known.tolist()))
        return torch.zeros(*tokens.shape, 3)

    canvas = Canvas.blank(Layout.sequence(4, 3), [1], [3]).prompt(torch.tensor([[2]]))
    um.ClassifierFree(2.0)(Handle(model), canvas, planned_of(canvas), None)
    assert seen == [
        ([[2, 0, 0, 0]], [[True, False, False, True]]),
        ([[0, 0, 0, 0]], [[False, False, False, True]]),
    ]


def test_an_autoregressive_model_is_heard_where_its_past_is_known():
    opinion = torch.tensor([0.5, 2.0, -1.0])
    canvas = Canvas.blank(Layout.sequence(4, 3), [1]).prompt(torch.tensor([[2, 1]]))
    guide = um.Autoregressive(answers(opinion), weight=0.5)
    _, guided = guide(Handle(answers(CONDITIONED)), canvas, planned_of(canvas), None)
    heard = CONDITIONED + 0.5 * opinion.log_softmax(-1)
    torch.testing.assert_close(guided[0], torch.stack([heard, heard, heard, CONDITIONED]))
    model = lambda tokens, known, query: CONDITIONED.expand(*query.shape, -1)  # noqa: E731
    guide = um.Autoregressive(lambda tokens, known, query: opinion.expand(*query.shape, -1), weight=0.5)
    _, guided = guide(Handle(model), canvas, planned_of(canvas), torch.tensor([[3, 2]]))
    torch.testing.assert_close(guided[0], torch.stack([CONDITIONED, heard]))


# ------------------------------------------------------------------ scores, draws, revisions, stops


def test_a_rolled_order_is_the_rows_own_however_far_it_is_padded():
    for seed in range(1, 9):
        ranks = []
        for size in (5, 9):
            canvas, memo = Canvas.blank(Layout.sequence(size, 3), [seed], [5]), {}
            at = StepContext(canvas, Handle(None), um.Plan(um.Everything())(canvas, memo), memo)
            ranks.append(um.Rank(torch.arange(size), roll=True)(at)[0, :5])
        assert torch.equal(*ranks) and sorted((-ranks[0]).tolist()) == [0, 1, 2, 3, 4]


def test_chosen_rows_take_their_part_of_a_critic_along():
    class Rows:
        def __init__(self, numbers):
            self.numbers = numbers

        def rows(self, index):
            return Rows(self.numbers[index])

    score = um.Perturbed(um.Critic(Rows(torch.arange(4))), 0.5)
    assert score.rows(torch.tensor([2, 0])).score.critic.numbers.tolist() == [2, 0]


def test_fixed_noise_is_that_of_every_step_and_other_noise_is_not():
    canvas = Canvas.blank(Layout.sequence(64, 9), [5])
    logits, live = torch.zeros(1, 64, 9, dtype=torch.float64), torch.ones(1, 64, dtype=torch.bool)

    def drawn(draw, step):
        late = replace(canvas, step=torch.tensor([step]))
        at = StepContext(late, Handle(None), planned_of(late), {})
        return draw(logits, canvas.sites[None], live, at)

    assert torch.equal(drawn(um.FixedNoise(), 0), drawn(um.FixedNoise(), 3))
    assert not torch.equal(drawn(um.Categorical(), 0), drawn(um.Categorical(), 3))


def test_keeping_the_best_masks_the_worst_that_may_be_masked():
    """Two of positions 1 to 3 are masked again; the frozen one has the worst score and counts for none of them."""
    canvas = Canvas.blank(Layout.sequence(4, 3), [1]).prompt(torch.tensor([[2]]))
    planned = replace(planned_of(canvas), count=torch.tensor([1]))
    score = torch.tensor([[-9.0, 0.1, 0.5, 0.3]])
    at = StepContext(canvas, Handle(None), planned, {}, _score=score)
    full = canvas.commit(canvas.masked, torch.ones_like(canvas.tokens))
    assert um.KeepBest()(at, full).masked.tolist() == [[False, True, False, True]]


def test_the_lowest_is_that_of_the_probability_when_it_was_committed():
    """Committed with .6, .7 and .8; the last step thinks better of the first one, and that is not asked."""
    now = [[0.6, 0.9, 0.9], [0.95, 0.7, 0.9], [0.95, 0.75, 0.8], [0.9, 0.9, 0.9]]

    def model(tokens, known, query):
        p = torch.tensor(now[int(known.sum())], dtype=torch.float64)
        return torch.stack([p, 1 - p], -1).log()[None]

    strategy = um.Strategy(
        um.Plan(um.Fixed(1)), um.Rank(torch.arange(3)), draw=um.Greedy(), revise=um.Correct(1, how="lowest")
    )
    seen = []
    um.decode(model, Canvas.blank(Layout.sequence(3, 2), [1]), strategy, on_step=lambda c: seen.append(c.masked[0]))
    assert [masked.nonzero().flatten().tolist() for masked in seen] == [[1, 2], [2], [0], []]


def test_the_share_unmasked_in_a_loop_by_hand():
    loop = um.Remasking("loop", 10, 0.02, t_on=0.6, t_off=0.2, alpha_on=0.8)
    share = loop.alpha(torch.tensor([1.0, 0.8, 0.6, 0.4, 0.2, 0.1, 0.0], dtype=torch.float64))
    assert share.tolist() == pytest.approx([0.0, 0.4, 0.8, 0.8, 0.8, 0.9, 1.0])


def test_an_end_token_behind_a_gap_ends_nothing():
    canvas = Canvas.blank(Layout.sequence(5, 7), [1], [4])
    where = torch.tensor([[True, False, True, False, False]])
    canvas = canvas.freeze(torch.tensor([[3, 0, 6, 0, 0]]), where)
    assert um.EndOfSequence(6)(canvas).masked.tolist() == canvas.masked.tolist()
    canvas = canvas.commit(torch.tensor([[False, True, False, False, False]]), torch.full((1, 5), 2))
    assert um.EndOfSequence(6)(canvas).tokens.tolist() == [[3, 2, 6, 6, 0]]  # and padding stays as it is


def test_a_forgotten_token_has_no_age():
    layout = Layout.sequence(4, 7)
    canvas = Canvas.blank(layout, [0], [4])
    where = torch.tensor([[True, True, False, False]])
    canvas = canvas.commit(where, torch.full_like(canvas.tokens, 3))
    again = canvas.remask(torch.tensor([[True, False, True, False]]))
    assert canvas.age.tolist() == [[0, 0, -1, -1]] and again.age.tolist() == [[-1, 0, -1, -1]]
    assert again.tokens.tolist() == [[0, 3, 0, 0]] and again.known.tolist() == [[False, True, False, False]]


# ------------------------------------------------------------------ presets


def test_presets_hand_every_knob_to_its_stage():
    given = um.kl_stable(0.2, 0.5, 3, 2).select
    assert (given.select, given.count) == (um.KLStable(0.2, 0.5, 3), 2)
    given = um.credit(0.6, 0.1, 0.2, 0.3)
    assert (given.score, given.select.select) == (um.Credit(0.1, 0.2, 0.3), um.Threshold(0.6))
    given = um.dimple(4, 0.7, 0.5)
    assert (given.select.select, given.select.count, given.warp) == (um.Threshold(0.7), None, um.Temperature(0.5))
    assert given.plan.count.schedule is um.linear
    assert um.frechet(0.3).select.select == um.Frechet(0.3)
    assert um.entropy_bounded(0.4).select.select == um.EntropyBound(0.4)
    assert um.fast_dllm(None, 1.5).select.select == um.Factor(1.5)
    assert um.fast_dllm(0.7).select.select == um.Threshold(0.7)
    given = um.llada(4, 0.7, 2.0)
    assert (given.warp, given.guide.guidance_scale, given.guide.scores) == (um.Temperature(0.7), 2.0, True)
    given = um.dream(4, "margin", 0.3, 0.5, 0.8)
    assert (given.score.score, given.score.temperature, given.score.anneal) == (um.Margin(), 0.3, False)
    assert given.warp.warps == (um.Temperature(0.5), um.Nucleus(0.8))
    assert um.block_diffusion(4, 0.7, 0.8).revise == um.Edit(0.8)
    assert um.block_diffusion(4, 0.7).warp == um.Nucleus(0.7)


def test_presets_of_pictures_sound_and_time_hand_every_knob_on():
    given = um.maskgit(4, um.linear, 2.0)
    assert (given.score.temperature, given.score.anneal, given.score.score) == (2.0, True, um.Drawn())
    assert given.plan.count.schedule is um.linear
    assert um.soundstorm((4, 1, 2), temperature=0.7).warp == um.Temperature((0.7, 0.0, 0.7))
    assert um.group_ipd((4, 1), temperature=0.7).warp == um.Temperature(0.7)
    assert um.vampnet(typical=0.3, temperature=0.5).warp.warps == (um.Temperature(0.5), um.Typical(0.3))
    given = um.maskgct(share=0.1, temperature=2.0, choice_temperature=0.4)
    assert given.warp.warps == (um.TopTokens(share=0.1), um.Temperature(2.0, anneal=True))
    assert (given.score.score, given.score.temperature) == (um.Drawn(log=False), 0.4)
    assert um.momask(share=0.2, temperature=0.5).warp.warps == (um.TopTokens(share=0.2), um.Temperature(0.5))
    given = um.mmm(4, 7, 0.5)
    assert (given.plan.count.num_steps, given.plan.count.per, given.warp) == (4, 7, um.Temperature(0.5))
    assert not um.halton(3, 4, roll=False).score.roll and um.halton(3, 4).score.roll
    given = um.arpg(4, guidance_scale=2.0, unconditional=answers(BARE)).guide
    assert (given.guidance_scale, given.ramp, given.scores) == (2.0, True, False)


@pytest.mark.parametrize(("kind", "eta"), [("cap", 0.008), ("rescale", 0.015), ("loop", 0.02), ("conf", 1.0)])
def test_remasking_begins_with_the_papers_rates(kind, eta):
    assert um.remdm(4, kind).revise.eta == eta
    given = um.remdm(4, kind, 0.3, 0.8, 0.6, 0.1, 0.7)
    assert given.revise is given.select.remasking
    found = (given.revise.eta, given.revise.t_on, given.revise.t_off, given.revise.alpha_on)
    assert found == (0.3, 0.6, 0.1, 0.7) and given.warp == um.Nucleus(0.8)
