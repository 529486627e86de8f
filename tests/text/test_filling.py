"""Filling canvases by request: settings are published samplers, laws, forms, caches, guides, and who is told."""

import itertools
import json
import re
import string

import flat
import numpy as np
import pytest
import torch
import unisono.masked as um
from refused import refused
from unisono import Synthesizer, Text
from unisono.errors import RequestError
from unisono.masked import Canvas, Layout
from unisono.testing.oracles.masked import MASK, Joint, surprise
from unisono_text.corpus.tokenizer import Tokenizer
from unisono_text.filling.denoise import CausalPrediction, Denoiser, Prefill, Remembering, Unprompted
from unisono_text.filling.generate import Filling, read_all, watched
from unisono_text.filling.request import TextRequest
from unisono_text.filling.sampling import PRESETS, LeftToRight, strategy_of
from unisono_text.models.ar import Autoregressive
from unisono_text.models.block import BlockModel
from unisono_text.models.masking import MaskedText
from unisono_text.models.mdlm import MDLM

ALPHABET = string.ascii_lowercase + string.digits + ' .,:-{}[]"\\\n'
TOKENIZER = Tokenizer.characters([ALPHABET])
FACTS = {
    **TOKENIZER.to_facts(),
    "context": 96,
    "characters_per_token": 1.0,
    "sample_texts": ["ab"],
    "chat": {"before": "a: ", "between": "\nb: ", "after": "\n"},
}
SPECIAL = 3
ROUNDING = 1e-5
"""Float32 of two small layers; the same sums in another order."""


def make(kind, **arguments):
    """A network with weights so large that what it says depends on all that it sees."""
    model = flat.make(kind, **{"dim": 16, "num_layers": 2, "num_heads": 2, "dropout": 0.0, **arguments})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model.build(dict(FACTS))
        for parameter in model.net.parameters():
            if parameter.dim() == 2:
                torch.nn.init.normal_(parameter, std=0.5)
    return model.eval()


@pytest.fixture(scope="module")
def guide():
    return make(Autoregressive)


@pytest.fixture(scope="module")
def model(guide):
    made = make(MDLM)
    made.attach("guide", guide)
    return made


@pytest.fixture(scope="module")
def blocks():
    return make(BlockModel, block_size=8)


def ask(model, **fields):
    return Synthesizer(model)(TextRequest.parse(**fields))


def cost(model, **fields):
    """A text, and the evaluations, rounds and token positions that it took."""
    names = ("evaluations", "rounds", "token_forwards")
    before = [getattr(model, name) for name in names]
    made = ask(model, **fields)
    return made, *(getattr(model, name) - then for name, then in zip(names, before, strict=True))


class Exact(MaskedText):
    """A text model whose beliefs are those of a table: positions 0 to n − 1 of three letters, all else certain."""

    block_size, mask_id = 0, SPECIAL + 3

    def __init__(self, joint):
        super().__init__()
        self.joint, self.tokenizer = joint, Tokenizer.characters(["abc"])
        self.vocabulary = self.tokenizer.vocabulary
        self.special, self.context = {"pad": 0, "bos": 1, "eos": 2}, 8
        assert self.mask_id == self.vocabulary

    def predict(self, tokens, sees=None, positions=None, cache=None):
        known = tokens != self.mask_id
        beliefs = self.joint((tokens - SPECIAL).clamp(0, 2), known, None)
        logits = torch.full((*tokens.shape, self.vocabulary), -torch.inf, dtype=torch.double)
        logits[..., SPECIAL:] = beliefs
        logits[..., :2] = 9.0  # padding and begin: never drawn, whatever the model says
        return logits


# ---- settings ------------------------------------------------------------------------------------

PUBLISHED = {
    "mdlm": ({"num_steps": 7}, um.mdlm(7)),
    "first_hitting": ({}, um.first_hitting()),
    "remdm": ({"num_steps": 7, "remask": "loop", "remask_eta": 0.1}, um.remdm(7, "loop", 0.1)),
    "llada": ({"num_steps": 7, "temperature": 0.5}, um.llada(7, 0.5)),
    "dream": ({"num_steps": 7, "order": "margin", "choice_temperature": 0.3}, um.dream(7, "margin", 0.3)),
    "dimple": ({"num_steps": 7, "threshold": 0.8, "temperature": 0.7}, um.dimple(7, 0.8, 0.7)),
    "fast_dllm": ({"factor": 1.5}, um.fast_dllm(None, 1.5)),
    "frechet": ({"frechet": 0.1}, um.frechet(0.1)),
    "entropy_bounded": ({"entropy_bound": 0.3}, um.entropy_bounded(0.3)),
    "kl_stable": ({"kl_stable": 0.02, "threshold": 0.7}, um.kl_stable(0.02, 0.7)),
    "credit": ({"threshold": 0.6}, um.credit(0.6)),
    "block_diffusion": ({"num_steps": 7, "edit": 0.9, "top_p": 0.9}, um.block_diffusion(7, 0.9, 0.9)),
}
DEFAULTS = {
    "mdlm": um.mdlm(), "first_hitting": um.first_hitting(), "remdm": um.remdm(), "llada": um.llada(64),
    "dream": um.dream(), "dimple": um.dimple(), "fast_dllm": um.fast_dllm(), "frechet": um.frechet(),
    "entropy_bounded": um.entropy_bounded(), "kl_stable": um.kl_stable(), "credit": um.credit(),
    "block_diffusion": um.block_diffusion(64),
}  # fmt: skip


def stages(strategy):
    return {name: repr(getattr(strategy, name)) for name in um.strategy.STAGES}


@pytest.mark.parametrize("name", PRESETS)
def test_a_sampler_is_the_published_one(name):
    """Its law is then the one that is proved of the core's strategy, stage by stage the same."""
    fields, wanted = PUBLISHED[name]
    assert stages(strategy_of(TextRequest.parse(sampler=name, **fields))) == stages(wanted)
    assert stages(strategy_of(TextRequest.parse(sampler=name))) == stages(DEFAULTS[name])


COMPOSED = [
    ({}, um.Random(), um.TopK(), um.Even(64)),
    ({"order": "entropy", "num_steps": 9}, um.NegativeEntropy(), um.TopK(), um.Even(9)),
    ({"order": "drawn"}, um.Drawn(), um.TopK(), um.Even(64)),
    ({"order": "left_to_right"}, LeftToRight(), um.TopK(), um.Even(64)),
    ({"threshold": 0.9}, um.MaxProb(), um.Fallback(um.Threshold(0.9)), um.Everything()),
    ({"threshold": 0.9, "order": "credit"}, um.Credit(), um.Fallback(um.Threshold(0.9)), um.Everything()),
    ({"threshold": 0.9, "num_steps": 5}, um.MaxProb(), um.Fallback(um.Threshold(0.9), None), None),
    ({"factor": 1.0}, um.MaxProb(), um.Fallback(um.Factor(1.0)), um.Everything()),
    ({"frechet": 0.0, "order": "margin"}, um.Margin(), um.Fallback(um.Frechet(0.0)), um.Everything()),
    ({"entropy_bound": 0.2}, um.NegativeEntropy(), um.Fallback(um.EntropyBound(0.2)), um.Everything()),
    ({"kl_stable": 0.2}, um.MaxProb(), um.Fallback(um.KLStable(0.2)), um.Everything()),
]


@pytest.mark.parametrize(("fields", "score", "select", "count"), COMPOSED, ids=[str(case[0]) for case in COMPOSED])
def test_settings_compose(fields, score, select, count):
    made = stages(strategy_of(TextRequest.parse(**fields)))
    assert (made["score"], made["select"]) == (repr(score), repr(select))
    assert made["draw"] == "Categorical()"
    if count is not None:
        assert made["plan"] == f"Plan({count!r})"
    else:  # what the rule leaves to the schedule is Dimple
        assert made == stages(um.dimple(5, 0.9))


def test_the_draw_is_composed_too():
    made = strategy_of(TextRequest.parse(temperature=0.5, top_k=4, top_p=0.8))
    assert repr(made.warp) == "Chain(Temperature(value=0.5, anneal=False), TopTokens(k=4, share=None), Nucleus(p=0.8))"
    assert stages(strategy_of(TextRequest.parse(temperature=0)))["draw"] == "Greedy()"
    assert stages(strategy_of(TextRequest.parse(sampler="fast_dllm", temperature=1)))["draw"] == "Categorical()"
    assert stages(strategy_of(TextRequest.parse(edit=0.7)))["revise"] == repr(um.Edit(0.7))
    assert stages(strategy_of(TextRequest.parse(remask="conf", num_steps=6))) == stages(um.remdm(6, "conf", nucleus=1))


# ---- laws ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("fields", [{}, {"order": "max_prob"}, {"block": 2, "order": "entropy"}], ids=str)
def test_texts_follow_the_models_law(fields):
    """One token a step: what comes out of requests is distributed as the table that the model believes in."""
    joint = Joint.random(4, 3, seed=1)
    model, settings = Exact(joint), {"length": 4, **fields}
    made = model_texts(model, [TextRequest.parse(seed=seed, **settings) for seed in range(1200)])
    assert surprise(joint.counts(torch.tensor([[*map("abc".index, text)] for text in made])), joint.p) < 6


def test_what_is_filled_in_follows_the_law_given_both_sides():
    joint = Joint.random(4, 3, seed=2)
    law = joint.p[0, :, :, 2] / joint.p[0, :, :, 2].sum()
    ways = [
        {"text": "a", "suffix": "c", "length": 2},
        {"text": "a", "template": "{x:1}{y:1}c"},
        {"template": "a{x:a|b|c}{y:a|b|c}c", "num_steps": 4},
    ]
    for fields in ways:
        made = model_texts(Exact(joint), [TextRequest.parse(seed=seed, **fields) for seed in range(1000)])
        assert all(text[0] == "a" and text[3] == "c" for text in made)
        counts = np.zeros((3, 3))
        for text in made:
            counts["abc".index(text[1]), "abc".index(text[2])] += 1
        assert surprise(counts, law) < 6, fields
    marginals = joint.marginals((0, MASK, MASK, 2))
    product = np.outer(marginals[1], marginals[2])
    made = model_texts(Exact(joint), [TextRequest.parse(seed=s, num_steps=1, **ways[0]) for s in range(1000)])
    counts = np.zeros((3, 3))
    for text in made:
        counts["abc".index(text[1]), "abc".index(text[2])] += 1
    assert surprise(counts, product) < 6 < surprise(counts, law)  # power: one step is another law


def model_texts(model, requests):
    return [made.text for made in model.synthesize(requests)]


def test_a_choice_is_the_models_among_the_options():
    """Two words of two letters that differ in both: never half of each, and as likely as the table says."""
    joint = Joint.random(2, 3, seed=3)
    made = model_texts(Exact(joint), [TextRequest.parse(seed=s, template="{x:ab|ba}", num_steps=1) for s in range(600)])
    assert set(made) == {"ab", "ba"}
    # The first position decides, given that it must be one of the two; which one is drawn first is a coin's.
    first, second = joint.marginals((MASK, MASK))
    share = (first[0] / (first[0] + first[1]) + second[1] / (second[0] + second[1])) / 2
    assert abs(made.count("ab") / 600 - share) < 4 * np.sqrt(share * (1 - share) / 600)


# ---- forms ---------------------------------------------------------------------------------------

SETTINGS = [
    *({"sampler": name} for name in PRESETS),
    {"num_steps": 1},
    {"remask": "conf", "num_steps": 5},
    {"edit": 0.2, "num_steps": 5},
    {"guidance_scale": 3.0},
    {"block": 4, "cache": "frozen_dual"},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_what_is_given_never_changes(model, settings):
    made = ask(model, text="abc: ", template="{who:3} had {n:..4}, {{{c:a|bb|ccc}}}.", seed=5, **settings)
    found = re.fullmatch(r"abc: (.{3}) had (.{0,4}), \{(a|bb|ccc)\}\.", made.text, re.DOTALL)
    assert found is not None, made.text
    assert made.facts["blanks"] == dict(zip(("who", "n", "c"), found.groups(), strict=True))
    assert "".join(made.pieces) == made.text and TOKENIZER.decode(made.tokens) == made.text
    given = [piece for piece, step in zip(made.pieces, made.order, strict=True) if step < 0]
    assert "".join(given) == "abc:  had , {}."


SCHEMA = {
    "type": "object",
    "title": "a figure",
    "properties": {
        "name": {"type": "string", "tokens": 6},
        "age": {"type": "integer", "digits": 3},
        "size": {"type": "number"},
        "there": {"type": "boolean"},
        "turn": {"type": "integer", "minimum": -2, "maximum": 12},
        "kind": {"enum": ["a", "bb", None, 1]},
        "parts": {"type": "array", "items": {"$ref": "#/$defs/part"}, "minItems": 2, "maxItems": 2},
        "nothing": {"type": "null"},
        "same": {"const": "a"},
    },
    "required": ["name"],
    "$defs": {"part": {"type": "object", "properties": {"a": {"type": "string"}}}},
}


@pytest.mark.parametrize("seed", range(6))
def test_json_parses_and_is_of_its_schema(model, seed):
    facts = {**FACTS, "context": 256}
    model.context = facts["context"]
    made = ask(model, text="a: ", json_schema=SCHEMA, seed=seed, num_steps=(1, 4, 64)[seed % 3])
    model.context = FACTS["context"]
    value = json.loads(made.text.removeprefix("a: "))
    assert value == made.facts["json"]
    assert list(value) == list(SCHEMA["properties"])
    assert isinstance(value["name"], str) and len(value["name"]) <= 6
    assert type(value["age"]) is int and 0 <= value["age"] < 1000
    assert type(value["size"]) is float and value["size"] >= 0
    assert type(value["there"]) is bool and value["turn"] in range(-2, 13)
    assert value["kind"] in ("a", "bb", None, 1) and value["nothing"] is None and value["same"] == "a"
    assert [list(part) for part in value["parts"]] == [["a"], ["a"]]


def test_json_without_leading_zeros(model):
    """Digits may be drawn as 007; what comes out is 7."""
    zeros = [ask(model, json_schema={"type": "integer"}, seed=seed) for seed in range(40)]
    assert any(made.pieces[0] == "0" and len(made.pieces) > 1 for made in zeros)
    for made in zeros:
        assert made.text == str(int("".join(made.pieces))) == str(made.facts["json"])


def test_a_text_ends_where_its_end_token_is(model):
    """What comes after the end token is padding, and not decoded."""
    end, kept = TOKENIZER.special["eos"], model.predict

    def ends(tokens, *rest):
        logits = kept(tokens, *rest)
        logits[:, 6, end] = 1e4
        logits[:, 9:, end] = 1e4
        return logits

    model.predict = ends
    try:
        made, steps, _, _ = cost(model, text="abc", length=30, order="left_to_right")
        assert made.facts["ended"] and len(made.text) == 6 and len(made.tokens) == 6
        assert steps == 4  # three letters and the end
        assert ask(model, text="abc", suffix="d", length=30).facts["ended"] is False  # exactly 30: it may not end
        blanks = ask(model, template="{a:..9}, {b:4}", order="left_to_right").facts["blanks"]
        assert (len(blanks["a"]), len(blanks["b"])) == (6, 4)
    finally:
        model.predict = kept


def test_a_prompt_may_be_empty_and_chats_have_their_template(model):
    made = ask(model, length=7, seed=2)
    assert made.facts["prompt_tokens"] == 0 and all(step >= 0 for step in made.order)
    made = ask(model, text="ab", chat=True, length=5)
    assert made.text.startswith("a: ab\nb: ") and made.facts["prompt_tokens"] == 9


def test_special_words_in_a_text_are_text(blocks):
    bytes_ = make(MDLM)
    bytes_.tokenizer = Tokenizer.bytes()
    bytes_.build({**FACTS, **bytes_.tokenizer.to_facts()})
    made = ask(bytes_, text="a [MASK] <eos>", suffix="<pad>", length=3)
    assert made.text.startswith("a [MASK] <eos>") and made.text.endswith("<pad>")
    assert sum(step >= 0 for step in made.order) == 3


# ---- batches, costs ------------------------------------------------------------------------------


def test_a_request_alone_is_the_request_in_a_batch(model, blocks):
    asked = [
        {"text": "abc", "length": 9},
        {"text": "a longer one", "length": 20, "seed": 4},
        {"text": "abc", "length": 9, "seed": 3, "threshold": 0.2},
        {"text": "def", "length": 17, "threshold": 0.2},
        {"template": "{a:..5} and {b:true|false}", "seed": 1},
        {"text": "abc", "length": 12, "guidance_scale": 2.0, "negative": "fgh fgh"},
        {"text": "defg", "length": 5, "guidance_scale": 2.0, "negative": "a"},
        {"text": "defg", "length": 5, "guidance_scale": 1.5},
        {"text": "abc", "length": 12, "guide_weight": 0.5},
        {"text": "abc", "length": 20, "guide_top": 2},
        {"text": "b", "length": 6, "guide_top": 2, "seed": 1},
    ]
    caches = [
        {"cache": cache, "block": 8, "text": "ab" * n, "length": 30 - n, "threshold": 0.3}
        for cache in ("unchanged", "prefill", "frozen", "frozen_dual", "delayed", "free")
        for n in (2, 9)
    ]
    prefix = [{"cache": "prefix", "text": "ab" * n, "length": 30 - n, "sampler": "mdlm"} for n in (2, 9)]
    for which, fields in ((model, asked + caches), (blocks, prefix)):
        requests = [TextRequest.parse(**item) for item in fields]
        together = Synthesizer(which)(requests[::-1])[::-1]
        for request, other in zip(requests, together, strict=True):
            alone = ask(which, **request.model_dump())
            assert (alone.tokens, alone.order, alone.facts) == (other.tokens, other.order, other.facts), request


def test_the_bill(model):
    assert cost(model, text="abc", length=10, num_steps=5)[1:] == (5, 5, 5 * 13)
    assert cost(model, text="abc", length=10, num_steps=5, guidance_scale=3)[1:] == (10, 5, 10 * 13)
    assert cost(model, text="abc", length=10, guide_top=TOKENIZER.vocabulary)[1:] == (2, 1, 2 * 13)
    assert cost(model, text="abc", length=10, num_steps=2, block=5)[2] == 6  # blocks 3–5, 5–10, 10–13


# ---- caches --------------------------------------------------------------------------------------

PROMPT = {"text": "abc def gh abc def gh abc", "length": 40, "seed": 7}


@pytest.mark.parametrize("settings", [{"sampler": "mdlm", "num_steps": 4}, {"threshold": 0.3}, {"sampler": "llada"}])
def test_finished_blocks_are_kept_exactly(blocks, settings):
    plain, calls, _, computed = cost(blocks, **PROMPT, **settings)
    kept, calls_, _, computed_ = cost(blocks, **PROMPT, **settings, cache="prefix")
    assert (plain.tokens, plain.order) == (kept.tokens, kept.order)
    assert calls == calls_ and computed_ < computed / 2
    drift = ask(blocks, **PROMPT, **settings, cache="prefix", drift=True).facts["drift"]
    assert len(drift) == calls and max(drift) < ROUNDING


def test_a_sealed_prompt_is_computed_once_and_exactly(model):
    _, calls, _, computed = cost(model, **PROMPT, num_steps=10, cache="prefill")
    assert (calls, computed) == (10, 25 + 10 * 40)
    filling = Filling(model, read_all(model, [TextRequest.parse(**PROMPT, num_steps=10)]))
    sealed = Remembering(model, torch.tensor([25]))
    plain = um.decode(um.Cached(sealed, um.Recompute()), filling.canvas, filling.strategy)
    again = um.Audit(um.Cached(sealed, Prefill()))
    assert torch.equal(plain.tokens, um.decode(again, filling.canvas, filling.strategy).tokens)
    assert max(again.drift) < ROUNDING
    # Against the network whose prompt sees the answer it is an approximation, and that is what is reported.
    assert max(ask(model, **PROMPT, num_steps=10, cache="prefill", drift=True).facts["drift"]) > 1e-3


@pytest.mark.parametrize("cache", ["frozen", "frozen_dual", "delayed", "free"])
def test_approximate_caches_say_how_far_they_lead(model, cache):
    _, calls, _, computed = cost(model, **PROMPT, num_steps=4, block=16)
    kept, calls_, _, computed_ = cost(model, **PROMPT, num_steps=4, block=16, cache=cache)
    assert calls == calls_ and computed_ < computed
    watched_ = ask(model, **PROMPT, num_steps=4, block=16, cache=cache, drift=True)
    assert (watched_.tokens, watched_.order) == (kept.tokens, kept.order)
    assert len(watched_.facts["drift"]) == calls
    assert watched_.facts["drift"][0] < ROUNDING < max(watched_.facts["drift"]) <= 1


def test_caches_that_keep_nothing_stale_are_none(model):
    plain = ask(model, **PROMPT, num_steps=4, block=16)
    assert ask(model, **PROMPT, num_steps=4, block=16, cache="delayed", refresh=1).tokens == plain.tokens
    one = ask(model, **PROMPT, num_steps=1, block=16)
    assert ask(model, **PROMPT, num_steps=1, block=16, cache="frozen").tokens == one.tokens
    slow, calls, _, _ = cost(model, text="abc", length=6, sampler="mdlm", num_steps=60)
    fast, calls_, _, _ = cost(model, text="abc", length=6, sampler="mdlm", num_steps=60, cache="unchanged")
    assert fast.tokens == slow.tokens and calls_ <= 6 < calls


# ---- guides --------------------------------------------------------------------------------------


def test_the_prompt_is_hidden_or_replaced_for_guidance(model):
    tokens = torch.tensor([TOKENIZER.encode("abcd  ef"), TOKENIZER.encode("ab   def")])
    known = torch.tensor([[True] * 4 + [False] * 2 + [True] * 2, [True] * 2 + [False] * 3 + [True] * 3])
    lengths, prompts = torch.tensor([8, 7]), torch.tensor([4, 2])
    hidden = Unprompted(model, lengths, 8, prompts)(tokens, known, None)
    bare = known & (torch.arange(8) >= prompts[:, None])
    torch.testing.assert_close(hidden, Denoiser(model, lengths, 8)(tokens, bare, None))
    instead = [TOKENIZER.encode("h"), TOKENIZER.encode("hgfe")]
    moved = Unprompted(model, lengths, 8, prompts, instead)(tokens, known, None)
    for row, (other, length, prompt) in enumerate(zip(instead, (8, 7), (4, 2), strict=True)):
        ids = torch.tensor([[*other, *tokens[row, prompt:length].tolist()]])
        seen = torch.tensor([[True] * len(other) + known[row, prompt:length].tolist()])
        alone = Denoiser(model, torch.tensor([ids.shape[1]]), ids.shape[1])(ids, seen, None)
        torch.testing.assert_close(moved[row, prompt:length], alone[0, len(other) :], atol=ROUNDING, rtol=1e-4)
    assert moved.isfinite().all()


def test_away_from_oneself_is_nowhere(model):
    plain = ask(model, text="abc", length=12)
    assert ask(model, text="abc", length=12, guidance_scale=5, negative="abc").tokens == plain.tokens
    assert ask(model, text="abc", length=12, guidance_scale=5).tokens != plain.tokens


def test_a_guide_that_must_agree_is_followed(model, guide):
    """Only its likeliest token is agreeable: its own greedy text, whatever proposes. All are: the proposal stands."""
    ids = TOKENIZER.encode("abc")
    for _ in range(12):
        logits = guide.predict(torch.tensor([[guide.start_id, *ids]]))[0, -1]
        logits[:2] = -torch.inf
        ids.append(int(logits.argmax()))
        if ids[-1] == TOKENIZER.special["eos"]:
            ids.pop()
            break
    made, calls, steps, _ = cost(model, text="abc", length=12, guide_top=1)
    assert made.text == TOKENIZER.decode(ids) and calls == 2 * steps
    freely = ask(model, text="abc", length=12, guide_top=TOKENIZER.vocabulary)
    assert freely.tokens == ask(model, text="abc", length=12, num_steps=1, temperature=0).tokens


def test_a_guide_weighs_in_where_it_knows_all_before(model, guide):
    canvas = Canvas.blank(Layout.sequence(6, TOKENIZER.vocabulary), [0])
    canvas = canvas.prompt(torch.tensor([TOKENIZER.encode("abc")]))
    opinion = CausalPrediction(guide)(canvas.tokens, canvas.known, None)
    torch.testing.assert_close(
        opinion[0, 3], guide.predict(torch.tensor([[guide.start_id, *TOKENIZER.encode("abc")]]))[0, -1]
    )
    heavy = ask(model, text="abc", length=12, order="left_to_right", temperature=0, guide_weight=100)
    assert heavy.text == ask(model, text="abc", length=12, guide_top=1).text
    assert ask(model, text="abc", length=12, order="left_to_right", temperature=0).text != heavy.text


# ---- who is told ---------------------------------------------------------------------------------


def test_a_hook_sees_each_block_before_the_next_is_begun(model):
    seen, canvases = [], []
    fields = {"length": 20, "block": 8, "num_steps": 3}
    asked = [TextRequest.parse(text=text, **fields) for text in ("abc", "a prompt of some length")]
    with watched(model, lambda number, text: canvases.append((number, text)), seen.append):
        made = Synthesizer(model)(asked)
    assert not model.watchers
    for number, text in enumerate(made):
        mine = [block for block in seen if block.request == number]
        assert mine[-1].so_far == text.text and mine[-1].stop >= len(text.tokens)
        assert all(one.stop == two.start for one, two in itertools.pairwise(mine))
        assert all(text.text.startswith(block.so_far) for block in mine)
        views = [view for which, view in canvases if which == number]
        assert any("░" in view.text for view in views) and views[-1].text == text.text

    def refuse(block):
        if block.start >= 8:
            raise PermissionError(block.text)

    with pytest.raises(PermissionError), watched(model, on_block=refuse):
        before = model.evaluations
        Synthesizer(model)(asked[0])
    with watched(model, on_block=lambda block: seen.append(block.start)):
        begun = []
        with watched(model, lambda number, text: begun.append(text.text.count("░"))):
            ask(model, text="abc", **fields)
    assert begun == sorted(begun, reverse=True) and model.evaluations > before


def test_snapshots_and_streams_end_as_the_text(model, blocks):
    synth = Synthesizer(model)
    fields = {"text": "abc", "length": 12, "num_steps": 4}
    *views, last = synth.snapshots(**fields)
    whole = synth(**fields)
    assert (last.text, last.order, last.facts) == (whole.text, whole.order, whole.facts)
    assert [view.text.count("░") for view in views] == [9, 6, 3, 0]
    assert all(isinstance(view, Text) and view.text.startswith("abc") for view in views)
    for which, more in ((model, {"block": 4}), (blocks, {}), (model, {"remask": "cap"}), (model, {})):
        pieces = [piece.text for piece in Synthesizer(which).stream(**fields, **more)]
        assert "".join(pieces) == Synthesizer(which)(**fields, **more).text
        assert len(pieces) > 1 or not (which.block_size or "block" in more)
    form = {"json_schema": {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2}}
    assert "".join(piece.text for piece in synth.stream(**form)) == synth(**form).text


def test_blocks_are_streamed_as_they_are_finished(blocks):
    lengths = [len(piece.text) for piece in Synthesizer(blocks).stream(text="abc", length=29, num_steps=16)]
    told = [sum(lengths[: number + 1]) for number in range(len(lengths))]
    assert len(told) > 2 and all(border % 8 == 0 for border in told[:-1])


class Says(MaskedText):
    """A text model of bytes that is certain of one text: byte i stands at position i."""

    block_size, attention, special = 0, "full", {"pad": 0, "bos": 1, "eos": 2}

    def __init__(self, text):
        super().__init__()
        self.tokenizer = Tokenizer.bytes()
        self.ids = torch.tensor(self.tokenizer.encode(text))
        self.vocabulary, self.context = self.tokenizer.vocabulary, len(self.ids)

    @property
    def mask_id(self):
        return self.vocabulary

    def predict(self, tokens, sees=None, positions=None, cache=None):
        certain = torch.full((len(self.ids), self.vocabulary), -1e4).scatter(1, self.ids[:, None], 0.0)
        return certain[: tokens.shape[1]].expand(len(tokens), -1, -1)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7])
def test_a_stream_tells_whole_characters_only(size):
    """Blocks of bytes: one that ends within a character is told with the block that has the character's last byte."""
    said = "é漢🙂 a漢漢é🙂"
    data = said.encode()
    ends = {len(said[:n].encode()): said[:n] for n in range(1, len(said) + 1)}
    told = [ends[stop] for stop in (*range(size, len(data), size), len(data)) if stop in ends]
    model = Says(said)
    pieces = [piece.text for piece in Synthesizer(model).stream(length=len(data), block=size)]
    assert [*itertools.accumulate(pieces)] == told and len(told) < -(-len(data) // size)


def test_a_stream_of_characters_that_stand_for_others_is_the_text():
    said = "\N{REPLACEMENT CHARACTER}é\N{REPLACEMENT CHARACTER}"
    for size in range(1, 9):
        assert "".join(piece.text for piece in Synthesizer(Says(said)).stream(length=8, block=size)) == said


def test_the_canvas_is_shown_in_the_terminal(model, monkeypatch, tmp_path, capfd):
    from unisono.cli import main

    monkeypatch.setattr("unisono.export.load", lambda *args, **kwargs: Synthesizer(model))
    path = tmp_path / "out.txt"
    assert main(["generate", "any", "abc", "-o", str(path), "--live", "--length=12", "--num-steps=4"]) == 0
    assert path.read_text() == ask(model, text="abc", length=12, num_steps=4).text
    shown = capfd.readouterr()
    assert shown.out.strip() == str(path) and "abc" in shown.err
    assert main(["generate", "any", "--input", "x", "--output-dir", "y", "--live"]) == 2
    assert "--live does not go with --input" in capfd.readouterr().err


def test_progress_counts_tokens(model):
    calls = []
    Synthesizer(model)([{"text": "abc", "length": 6}, {"length": 5}], on_step=lambda *call: calls.append(call))
    assert calls[-1] == (11, 11) and {total for _, total in calls} == {11}
    with refused(RequestError, "unsupported", "text"):
        read_all(make(Autoregressive), [TextRequest()])
