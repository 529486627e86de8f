"""Motion from text, and editing: what is frozen stays, whatever chooses the rest; windows, streams, wrong requests."""

import numpy as np
import pytest
import torch
from refused import refused
from unisono import Synthesizer
from unisono.errors import RecipeError, RequestError
from unisono.masked import PRESETS
from unisono_motion.models.composing import Composition, Unroller, context_of
from unisono_motion.models.request import read_request
from unisono_motion.models.sampling import SAMPLERS, SAMPLING
from unisono_motion.skeleton import Motion
from unisono_motion.tokens import untrained

RECIPES = ("motion/mmm-tiny", "motion/momask-tiny")
FPS, DOWN = 20, 4


@pytest.fixture(scope="module", params=RECIPES)
def model(request, make_motion):
    return make_motion(request.param)


@pytest.fixture(scope="module")
def parts(make_motion):
    return make_motion("motion/mmm-tiny")


def filled(model, **fields):
    """Return the filled task of a request."""
    task = read_request(model, model.Request.parse(**fields))
    with torch.inference_mode():
        for _ in model.fill_all([Composition(model, task, task.request.seed)]):
            pass
    assert task.known.all()
    return task


def tokens_of(model, path):
    features = model.tokenizer.read(str(path))
    return model.tokenizer.encode(features[None])[0][:, model.columns], len(features)


# ---- lengths, seeds, batches ---------------------------------------------------------------------


def test_a_motion_is_as_long_as_asked(model):
    made = Synthesizer(model)("a figure walks", seconds=1.85, guidance_scale=1)
    assert len(made.positions) == 37  # ten positions of four frames, the last cut
    assert made.caption == "a figure walks"


def test_the_predicted_length_is_drawn_from_the_head(parts):
    with torch.no_grad():
        kept = parts.length[2].bias.clone()
        parts.length[2].bias.fill_(-30.0)
        parts.length[2].bias[[4, 8]] = 0.0  # 5 and 9 positions
        lengths = [parts.predict_length("a figure walks", seed) for seed in range(60)]
        parts.length[2].bias.copy_(kept)
    assert set(lengths) == {5, 9}
    assert lengths == lengths[:30] + lengths[30:]
    assert parts.predict_length("a figure", 3) == parts.predict_length("a figure", 3)


def test_seeds_differ_and_repeat(model):
    fields = {"text": "a figure waves", "seconds": 2.0}
    one, again, other = (filled(model, **fields, seed=seed).tokens for seed in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_a_request_alone_is_the_request_in_a_batch(model, clip):
    asked = [
        {"text": "a figure walks forward slowly", "seconds": 1.0},
        {"text": "waves", "seconds": 2.2, "seed": 4},
        {"texts": ["a figure waves", "a figure walks"], "durations": [1.4, 3.0]},
        {"motion": str(clip), "keep": [[0, 1]], "text": "a figure turns"},
        {"text": "waves", "seconds": 2.0, "sampler": "halton", "num_steps": 3},
        {"text": "waves", "seconds": 2.0, "guidance_scale": 1},
    ]
    requests = [model.Request.parse(**fields) for fields in asked]
    tasks = [read_request(model, request) for request in requests]
    with torch.inference_mode():
        for _ in model.fill_all([Composition(model, task, task.request.seed) for task in tasks]):
            pass
    for task, fields in zip(tasks, asked, strict=True):
        assert torch.equal(task.tokens, filled(model, **fields).tokens), fields


# ---- samplers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_leaves_frozen_tokens_alone(model, clip, sampler):
    own, _ = tokens_of(model, clip)
    steps = {"num_steps": 3} if "num_steps" in PRESETS[SAMPLERS[sampler]].takes else {}
    task = filled(model, motion=str(clip), keep=[[0, 0.8], [1.8, 2.4]], text="a figure", sampler=sampler, **steps)
    assert 0 < task.frozen.sum() < task.frozen.numel()
    assert torch.equal(task.tokens[task.frozen], own[task.frozen])
    assert ((task.tokens >= 0) & (task.tokens < model.codebook_size)).all()


def test_samplers_refuse_what_they_cannot_take(parts):
    ask = {"text": "a figure", "seconds": 1.0}
    for fields, knob in (
        ({"sampler": "fast_dllm", "num_steps": 4}, "num_steps"),
        ({"sampler": "mmm", "choice_temperature": 2.0}, "choice_temperature"),
        ({"sampler": "llada", "top_k": 3}, "top_k"),
        ({"temperature": 0, "top_p": 0.5}, "top_p"),
    ):
        with refused(RequestError, "conflict", knob, value=fields[knob]):
            filled(parts, **ask, **fields)
    filled(parts, **ask, sampler="fast_dllm", temperature=0.7, top_k=3)
    filled(parts, **ask, sampler="vampnet", choice_temperature=2.0, top_p=0.9)


@pytest.mark.parametrize(("scale", "times"), [(1, 1), (3, 2)])
def test_evaluations_are_those_asked_for(parts, scale, times):
    before = parts.evaluations
    filled(parts, text="a figure", seconds=2.0, sampler="maskgit", num_steps=5, guidance_scale=scale)
    assert parts.evaluations - before == 5 * times


def test_mmm_takes_steps_by_length(parts):
    counts = []
    for seconds in (0.8, 2.4):
        before = parts.evaluations
        filled(parts, text="a figure", seconds=seconds, sampler="mmm", num_steps=49, guidance_scale=1)
        counts.append(parts.evaluations - before)
    assert counts == [2 * 4, 2 * 12]  # as many steps as tokens, two streams


def test_levels_are_filled_from_the_base_up(make_motion):
    model, calls = make_motion("motion/momask-tiny"), []
    predict = model.predict

    def spy(tokens, known, condition, forget):
        calls.append(known[0].all(0).tolist())
        return predict(tokens, known, condition, forget)

    model.predict = spy
    filled(model, text="a figure", seconds=2.0, sampler="maskgit", num_steps=4, guidance_scale=1)
    assert calls == [[False] * 3] * 4 + [[True, False, False], [True, True, False]]


def test_temperature_nought_takes_the_likeliest(parts):
    fields = {"text": "a figure", "seconds": 1.0, "temperature": 0, "sampler": "choose_then_draw"}
    one, other = (filled(parts, **fields, seed=seed).tokens for seed in (1, 2))
    assert torch.equal(one, other)


def test_halton_puts_the_streams_of_a_position_side_by_side(parts):
    strategy = SAMPLING.strategy(parts.Request(text="a figure", sampler="halton"), parts.layout(7))
    assert strategy.score.num_streams == parts.num_streams == 2


# ---- editing ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "frames", "frozen"),
    [
        ({"keep": [[0, 0.8], [1.6, 2.4]]}, None, [*range(0, 4), *range(8, 12)]),  # in between
        ({"keep": [[0, 1.0]], "seconds": 6.0}, 120, range(0, 5)),  # what comes after
        ({"keep": [[0.45, 0.95]]}, None, [3]),  # only whole tokens: 0.6 to 0.8 s
        ({"keep": [[0, 1.0]], "at": 1.0}, "longer", range(5, 10)),  # what came before
        ({"keep": [[0, 0.4]], "seconds": 0.4}, 8, range(0, 2)),  # all of it is given
    ],
)
def test_what_is_kept_is_the_clips_own(model, clip, fields, frames, frozen):
    own, length = tokens_of(model, clip)
    task = filled(model, motion=str(clip), text="a figure waves", **fields)
    expected = {None: length, "longer": length + 20}.get(frames, frames)
    assert task.frames == expected
    assert task.frozen.all(1).nonzero()[:, 0].tolist() == list(frozen)
    shift = 5 if "at" in fields else 0
    assert torch.equal(task.tokens[list(frozen)], own[[i - shift for i in frozen]])


def test_the_end_of_a_clip_is_kept_to_its_last_frame(model, clip):
    own, length = tokens_of(model, clip)
    task = filled(model, motion=str(clip), keep=[[1.6, length / FPS]], text="a figure waves")
    assert task.frozen.all(1).nonzero()[:, 0].tolist() == list(range(8, len(own)))


def test_nothing_to_fill_costs_nothing(parts, clip):
    own, length = tokens_of(parts, clip)
    before = parts.evaluations
    task = filled(parts, motion=str(clip), keep=[[0, length / FPS]])
    assert parts.evaluations == before
    assert torch.equal(task.tokens, own)


@pytest.mark.parametrize("part", ["lower", "upper"])
def test_a_part_is_made_anew_and_the_other_stays(parts, clip, part):
    own, _ = tokens_of(parts, clip)
    task = filled(parts, motion=str(clip), part=part, text="a figure waves")
    stays = 1 if part == "lower" else 0
    assert parts.streams == [("lower", 0), ("upper", 0)]
    assert torch.equal(task.tokens[:, stays], own[:, stays])
    assert not torch.equal(task.tokens[:, 1 - stays], own[:, 1 - stays])
    both = filled(parts, motion=str(clip), part=part, keep=[[0, 0.8]], text="a figure waves")
    assert torch.equal(both.tokens[:4], own[:4])
    assert torch.equal(both.tokens[:, stays], own[:, stays])


def test_seams_are_where_frozen_meets_made(parts, clip):
    task = filled(parts, motion=str(clip), keep=[[0, 0.8], [1.6, 2.4]], text="a figure")
    assert task.seams(DOWN)[:3] == [16, 32, 48]
    texts = filled(parts, texts=["walks", "waves"], durations=[2.0, 1.0])
    assert texts.seams(DOWN) == [40]


def test_texts_meet_at_the_nearest_token(model):
    fps, down = model.tokenizer.spec.fps, model.tokenizer.downsampling
    seconds = (5 * down - 1) / fps  # nearer to five tokens than to four
    request = model.Request.parse(texts=["a figure", "a figure"], durations=[seconds, 1.0])
    task = read_request(model, request)
    assert task.spans[0].stop == 5 and task.frames == 5 * down + round(fps)


def test_an_edit_may_do_without_a_text(parts, clip):
    one = filled(parts, motion=str(clip), keep=[[0, 0.8]], guidance_scale=1)
    other = filled(parts, motion=str(clip), keep=[[0, 0.8]], guidance_scale=5)
    assert torch.equal(one.tokens, other.tokens)  # without a text there is nothing to guide by


# ---- windows, borders, streams ---------------------------------------------------------------------


def test_ten_minutes_are_made_window_by_window(parts):
    sizes, pieces = [], []
    net, decode = parts.net.forward, parts.tokenizer.decode
    parts.net.forward = lambda tokens, *rest: (sizes.append(tokens.shape[:2]), net(tokens, *rest))[1]
    parts.tokenizer.decode = lambda tokens, lengths: (pieces.append(tokens.shape[1]), decode(tokens, lengths))[1]
    try:
        made = list(
            Synthesizer(parts).stream("a figure walks", seconds=600, num_steps=1, guidance_scale=1, sampler="maskgit")
        )
    finally:
        parts.net.forward, parts.tokenizer.decode = net, decode
    assert sum(len(piece.positions) for piece in made) == 600 * FPS
    assert max(map(tuple, sizes)) <= (1, parts.max_tokens)
    assert max(pieces) <= parts.max_tokens + 2 * context_of(parts.tokenizer)
    assert len(made) >= 200


def test_only_the_border_between_two_texts_is_made_again(parts):
    fields = {"texts": ["walks", "waves"], "durations": [2.0, 2.0]}
    whole = filled(parts, **fields, transition=0)
    task = filled(parts, **fields, transition=0.8)
    again = (task.tokens != whole.tokens).any(1).nonzero()[:, 0].tolist()
    assert set(again) <= {8, 9, 10, 11}  # 0.4 s before and after position 10
    assert again


def test_pieces_are_what_all_tokens_give_at_once(model):
    task = filled(model, texts=["walks and turns left", "waves", "walks"], durations=[3.0, 2.0, 2.95])
    unroller = Unroller(model.tokenizer, task, 6)
    features = torch.cat([unroller._features(i, min(i + 6, len(task.tokens))) for i in range(0, len(task.tokens), 6)])
    whole = model.tokenizer.decode(task.tokens[None], torch.tensor([task.frames]))[0, : task.frames]
    torch.testing.assert_close(features, whole)
    pieces = list(unroller.pieces())
    assert len(pieces) > 3
    at_once = model.tokenizer.motion(whole)
    # float32 media, summed over 8 s: a tenth of a millimetre
    assert np.abs(Motion.join(pieces).positions - at_once.positions).max() < 1e-4
    assert np.abs(Motion.join(pieces).local_rotations - at_once.local_rotations).max() < 1e-4


def test_a_stream_is_the_synthesis_in_pieces(model):
    synthesizer = Synthesizer(model)
    fields = {"texts": ["walks", "waves", "walks"], "durations": [3.0, 2.0, 2.0]}
    pieces = list(synthesizer.stream(**fields))
    whole = synthesizer(**fields)
    assert len(pieces) > 1
    assert np.abs(Motion.join(pieces).positions - whole.positions).max() < 1e-4


# ---- wrong requests --------------------------------------------------------------------------------

TEXT = {"text": "a figure walks"}
WRONG = {
    "nothing": ({}, "text is required"),
    "empty": ({"text": ""}, "the text '' has no word"),
    "5,000 words": ({"text": "walk " * 5000}, "the text has 5000 words, a caption at most 64"),
    "length 0": ({**TEXT, "seconds": 0}, "seconds=0: input should be greater than 0"),
    "negative": ({**TEXT, "seconds": -1}, "seconds=-1: input should be greater than 0"),
    "a day": ({**TEXT, "seconds": 86400}, "seconds=86400: input should be less than or equal to 3600"),
    "one frame": ({**TEXT, "seconds": 0.03}, "0.03 s is less than two frames at 20 a second: ask for at least 0.1"),
    "sampler": ({**TEXT, "sampler": "maskgti"}, "unknown sampler 'maskgti' (did you mean 'maskgit'?)"),
    "steps": ({**TEXT, "num_steps": 0}, "num_steps=0: input should be greater than or equal to 1"),
    "guidance": ({**TEXT, "guidance_scale": 0.5}, "guidance_scale=0.5: input should be greater than or equal to 1"),
    "field": ({**TEXT, "second": 2}, "unknown field 'second' (did you mean 'seconds'?)"),
    "both": ({**TEXT, "texts": ["walks"]}, "text and texts exclude each other"),
    "texts and seconds": ({"texts": ["walks"], "seconds": 2}, "seconds and texts exclude each other"),
    "no texts": ({"texts": []}, "texts=[]"),
    "an empty one": ({"texts": ["walks", "!"]}, "the text '!' has no word"),
    "durations": ({"texts": ["walks", "waves"], "durations": [1.0]}, "1 durations for 2 texts: give one each"),
    "a duration": ({"texts": ["walks"], "durations": [0.0]}, "durations hold 0.0"),
    "durations alone": ({**TEXT, "durations": [1.0]}, "durations are those of texts"),
    "keep what": ({**TEXT, "keep": [[0, 1]]}, "says how to edit a clip: give its path as motion"),
    "part of what": ({**TEXT, "part": "upper"}, "part='upper' says how to edit a clip"),
    "no such file": ({"motion": "nowhere.bvh", "keep": [[0, 1]]}, "nowhere.bvh"),
}
WRONG_EDITS = {
    "keep nothing": ({}, "what of the motion should stay? give keep"),
    "outside": ({"keep": [[1, 9]]}, "keep holds [1, 9]: a range must lie within the clip, 0 to 2."),
    "before": ({"keep": [[-1, 1]]}, "keep holds [-1, 1]: a range must lie within the clip"),
    "backwards": ({"keep": [[1, 0.5]]}, "and end after it starts"),
    "too little": ({"keep": [[0.25, 0.35]]}, "covers no whole token of 0.200 s: keep more"),
    "beyond the result": ({"keep": [[1, 2]], "seconds": 1.5}, "what is kept ends 2.00 s into a result of 1.50 s"),
    "part": ({"part": "middle"}, "part='middle'"),
    "texts": ({"texts": ["walks"], "keep": [[0, 1]]}, "edit a clip with one text"),
    "caption": ({"keep": [[0, 1]], "text": " "}, "has no word"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_request_is_one_sentence(parts, name):
    fields, said = WRONG[name]
    with pytest.raises(RequestError) as error:
        Synthesizer(parts)(fields)
    assert said in str(error.value)
    assert len(str(error.value)) < 600 and "\n" not in str(error.value)


@pytest.mark.parametrize("name", WRONG_EDITS)
def test_a_wrong_edit_is_one_sentence(parts, clip, name):
    fields, said = WRONG_EDITS[name]
    with pytest.raises(RequestError) as error:
        Synthesizer(parts)({"motion": str(clip), **fields})
    assert said in str(error.value)
    assert len(str(error.value)) < 600 and "\n" not in str(error.value)


def test_a_body_as_a_whole_has_no_parts(make_motion, clip):
    model = make_motion("motion/momask-tiny")
    with refused(RequestError, "unsupported", "part", value="upper"):
        Synthesizer(model)(motion=str(clip), part="upper", text="waves")


def test_more_steps_than_tokens_are_as_many_as_tokens(parts):
    before = parts.evaluations
    filled(parts, text="a figure", seconds=0.4, sampler="maskgit", num_steps=1000, guidance_scale=1)
    assert parts.evaluations - before == 4


# ---- components ------------------------------------------------------------------------------------


def test_a_tokenizer_that_does_not_fit_is_refused(make_motion, figures):
    facts = figures.describe()
    parts = make_motion("motion/mmm-tiny")
    with refused(RecipeError, "conflict", "model.num_streams", value=2, names="1"):
        parts.attach("tokenizer", untrained.whole(facts))
    with refused(RecipeError, "conflict", "components.tokenizer"):
        parts.attach("tokenizer", untrained.levels(facts))
    with refused(RecipeError, "conflict", "model.num_levels", value=4, names="3"):
        make_motion("motion/momask-tiny", num_levels=4)
    with refused(RecipeError, "conflict", "model.codebook_size", value=8, names="16"):
        make_motion("motion/mmm-tiny", codebook_size=8)
    with refused(RecipeError, "type", "components.tokenizer", value="MMM"):
        parts.attach("tokenizer", make_motion("motion/mmm-tiny"))
    other = {**facts, "motion": {**facts["motion"], "fps": 30}}
    with refused(RecipeError, "conflict", "components.tokenizer"):
        parts.attach("tokenizer", untrained.parts(other))


@pytest.mark.parametrize(
    ("name", "value", "code", "path", "told"),
    [
        ("text_dropout", 1.5, "range", "model.condition.dropout", 1.5),
        ("max_tokens", 3, "range", "model.max_tokens", 3),
        ("num_heads", 3, "shape", "model.network.dim", 16),
    ],
)
def test_sizes_have_limits(make_motion, name, value, code, path, told):
    with refused(RecipeError, code, path, value=told):
        make_motion("motion/mmm-tiny", **{name: value})
