"""text/ar, text/medusa and text/pass: every decoding gives the text of plain decoding, by request."""

import itertools
from dataclasses import replace

import flat
import pytest
import torch
from refused import ANYTHING, refused
from unisono.errors import RecipeError, RequestError
from unisono_text.corpus.data import ToyData
from unisono_text.lossless.look_ahead import PaSS
from unisono_text.lossless.medusa import Medusa
from unisono_text.lossless.request import ContinueRequest
from unisono_text.models.ar import Autoregressive
from unisono_text.models.mdlm import MDLM

SIZES = dict(dim=32, num_layers=2, num_heads=2, filter_dim=48, dropout=0.0)


@pytest.fixture(scope="module")
def data():
    made = ToyData(num_items=24, context=40, batch_size=8)
    made.prepare(progress=False)
    return made


def fresh(kind, facts, seed, **arguments):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = flat.make(kind, **arguments)
        model.build(facts)
    return model.eval()


def sharpened(model):
    """Random weights that have an opinion: as drawn, all tokens are about equally likely."""
    with torch.no_grad():
        model.net.head.weight.mul_(20)
    return model


@pytest.fixture(scope="module")
def models(data):
    facts = data.describe()
    target = sharpened(fresh(Autoregressive, facts, 0, **SIZES))
    draft = fresh(Autoregressive, facts, 0, **SIZES)
    draft.load_state_dict(target.state_dict())
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in draft.parameters():
            parameter += 0.01 * torch.randn(parameter.shape, generator=generator)
    drafter = fresh(MDLM, facts, 2, **SIZES)
    medusa, ahead = fresh(Medusa, facts, 3, dim=32, heads=3), fresh(PaSS, facts, 4, dim=32, ahead=3)
    for model in (target, medusa, ahead):
        model.attach("draft", draft)
        model.attach("drafter", drafter)
    for model in (medusa, ahead):
        model.attach("base", target)
    return {"ar": target, "medusa": medusa, "pass": ahead}


def ask(model, decoding, temperature=0.0, **given):
    texts = ["Ada has 3 ", "", "Ben"]
    requests = [
        ContinueRequest(text=text, length=16 + 4 * i, decoding=decoding, temperature=temperature, seed=i, **given)
        for i, text in enumerate(texts)
    ]
    return model.synthesize(requests)


@pytest.mark.parametrize("name", ["ar", "medusa", "pass"])
def test_greedy_texts_are_those_of_plain_decoding(models, name):
    model, own = models[name], {"medusa": ["medusa"], "pass": ["pass"]}.get(name, [])
    plain = ask(models["ar"], "plain")
    assert [text.facts["steps"] for text in plain] == [len(t.tokens) - t.facts["prompt_tokens"] for t in plain] or any(
        text.facts["ended"] for text in plain
    )
    for decoding in ("plain", "jacobi", "gauss-seidel", "ngram", "speculative", "coupled", "parallel", *own):
        made = ask(model, decoding, **({"block": 4} if decoding == "gauss-seidel" else {}))
        assert [text.text for text in made] == [text.text for text in plain], decoding
        for text in made:
            assert text.order.count(-1) == text.facts["prompt_tokens"]
            assert sorted(text.order) == list(text.order)


@pytest.mark.parametrize("name", ["ar", "medusa", "pass"])
def test_sampled_texts_are_those_of_plain_sampling(models, name):
    model, own = models[name], {"medusa": ["medusa"], "pass": ["pass"]}.get(name, [])
    plain = ask(models["ar"], "plain", 1.0, top_p=0.95)
    assert len({text.text[-8:] for text in plain}) == 3
    for decoding in ("jacobi", "ngram", "coupled", *own):
        made = ask(model, decoding, 1.0, top_p=0.95)
        assert [text.text for text in made] == [text.text for text in plain], decoding


def test_a_request_alone_and_in_a_batch_gives_the_same_text(models):
    for name, decoding in (("ar", "speculative"), ("ar", "parallel"), ("medusa", "medusa"), ("pass", "pass")):
        together = ask(models[name], decoding, 1.0)
        for i, request in enumerate(
            ContinueRequest(text=text, length=16 + 4 * i, decoding=decoding, seed=i)
            for i, text in enumerate(["Ada has 3 ", "", "Ben"])
        ):
            assert models[name].synthesize([request])[0].text == together[i].text


def test_speculation_is_worth_something_here(models):
    """Else the tests above would verify nothing."""
    for decoding in ("speculative", "coupled"):
        made = ask(models["ar"], decoding, 1.0)
        assert 0 < sum(t.facts["accepted"] for t in made) < sum(t.facts["proposed"] for t in made)


def test_texts_match_the_networks_own_likeliest_tokens(models):
    """Greedy, by a loop of its own over whole sequences without a cache."""
    model = models["ar"]
    ids = [model.start_id, *model.tokenizer.encode("Ada has 3 ")]
    start = len(ids)
    while len(ids) - start < 16 and ids[-1] != model.special["eos"]:
        ids.append(int(model.predict(torch.tensor([ids]))[0, -1].argmax()))
    assert ask(model, "plain")[0].text == "Ada has 3 " + model.tokenizer.decode(ids[start:])


def test_the_bill_is_counted(models):
    model = models["ar"]
    before = model.evaluations, model.rounds, model.token_forwards
    text = model.synthesize([ContinueRequest(text="Ben", length=9, temperature=0.0)])[0]
    steps = text.facts["steps"]
    assert model.evaluations - before[0] == steps and model.rounds - before[1] == steps
    assert model.token_forwards - before[2] == len("Ben") + steps  # the prompt with its start at once, then one each


def test_arithmetic_beams_are_diverse(models):
    model = models["ar"]
    requests = [ContinueRequest(length=12, decoding="arithmetic", beams=8, beam=i, seed=5) for i in range(8)]
    together = [text.text for text in model.synthesize(requests)]
    assert together[3] == model.synthesize([requests[3]])[0].text
    law = model.predict(torch.tensor([[model.start_id]]))[0, 0].double().softmax(-1)
    first = [text.tokens[0] if (text := made).tokens else model.special["eos"] for made in model.synthesize(requests)]
    for token in set(first):
        assert abs(first.count(token) - 8 * float(law[token])) < 1


def test_streamed_pieces_are_the_whole(models):
    request = ContinueRequest(text="Ada", length=20, decoding="ngram", seed=3)
    pieces = [piece.text for piece in models["ar"].stream(request)]
    assert "".join(pieces) == models["ar"].synthesize([request])[0].text
    assert len(pieces) > 3 and pieces[0].startswith("Ada")


def test_a_prompt_is_put_into_the_form_of_chats(models, monkeypatch):
    model = models["ar"]
    with refused(RequestError, "unsupported", "chat"):
        model.synthesize([ContinueRequest(text="Ben", chat=True)])
    form = {"before": "Ada ", "between": " has", "after": ""}
    monkeypatch.setattr(model, "facts", replace(model.facts, chat=form))
    in_form, plain = (
        model.synthesize([ContinueRequest(text=text, chat=chat, length=9)])[0]
        for text, chat in (("red", True), ("Ada red has", False))
    )
    assert in_form.text == plain.text and in_form.facts["prompt_tokens"] == len("Ada red has")
    pieces = model.stream(ContinueRequest(text="red", chat=True, length=9))
    assert "".join(piece.text for piece in pieces) == plain.text


def test_progress_is_told_to_the_end(models):
    told = []
    models["ar"].synthesize(
        [ContinueRequest(length=8), ContinueRequest(length=6, seed=2)], None, lambda *at: told.append(at)
    )
    assert told[-1] == (14, 14) and [at[0] for at in told] == sorted({at[0] for at in told})


@pytest.mark.parametrize(
    ("code", "path", "value", "fields"),
    [
        ("limit", "text", 40, dict(text="A" * 40)),
        ("range", "length", 39, dict(text="Ada", length=39)),
        ("unsupported", "text", ["%"], dict(text="%")),
        ("shape", "tree", (3, 2), dict(decoding="medusa")),
        ("unsupported", "decoding", "pass", dict(decoding="pass")),
    ],
)
def test_a_wrong_request_is_one_sentence(models, code, path, value, fields):
    with refused(RequestError, code, path, value=value):
        models["ar"].synthesize([ContinueRequest.parse(**fields)])


@pytest.mark.parametrize(
    ("code", "path", "value", "fields"),
    [
        ("unknown", "decoding", "speculate", dict(decoding="speculate")),
        ("conflict", "num_draft", {"num_draft": 3}, dict(num_draft=3)),
        ("conflict", "beams", {"beams": 2}, dict(beams=2)),
        ("range", "beam", ANYTHING, dict(decoding="arithmetic", beams=4, beam=4)),
        ("range", "tree", {"decoding": "medusa", "tree": (2, 0)}, dict(decoding="medusa", tree=(2, 0))),
        ("limit", "tree", {"decoding": "medusa", "tree": (20, 20, 20)}, dict(decoding="medusa", tree=(20, 20, 20))),
        ("range", "top_p", 0, dict(top_p=0)),
        ("range", "length", 0, dict(length=0)),
        ("range", "temperature", -1, dict(temperature=-1)),
    ],
)
def test_an_impossible_request_is_refused(code, path, value, fields):
    with refused(RequestError, code, path, value=value):
        ContinueRequest.parse(**fields)


def test_components_of_another_tokenizer_are_refused(models, data):
    other = ToyData(num_items=8, context=40, tokenizer="bytes")
    other.prepare(progress=False)
    facts = data.describe()
    target = fresh(Autoregressive, facts, 0, **SIZES)
    with refused(RequestError, "missing", "components.draft"):
        target.synthesize([ContinueRequest(decoding="speculative")])
    target.attach("draft", fresh(Autoregressive, other.describe(), 0, **SIZES))
    with refused(RequestError, "conflict", "components.draft"):
        target.synthesize([ContinueRequest(decoding="speculative")])
    stranger = fresh(Autoregressive, other.describe(), 0, **SIZES)
    for kind in (Medusa, PaSS):
        with refused(RecipeError, "conflict", "components.base"):
            fresh(kind, facts, 0, dim=32).attach("base", stranger)
        with refused(RecipeError, "conflict", "model.dim", value=16, names="32"):
            fresh(kind, facts, 0, dim=16).attach("base", target)
        with refused(RecipeError, "unsupported", "components.base", value="MDLM"):
            fresh(kind, facts, 0, dim=32).attach("base", models["ar"].component("drafter"))
        with refused(RecipeError, "range", names="=0"):
            kind(dim=32, **{"heads" if kind is Medusa else "ahead": 0})


def batch_of(data, count=4):
    return data.collate([{**data.train_set.item(i, torch.Generator()), "row": i} for i in range(count)])


def test_medusas_heads_begin_as_the_base_and_learn_what_comes_later(models, data):
    medusa = fresh(Medusa, data.describe(), 3, dim=32, heads=2)
    medusa.attach("base", models["ar"])
    batch = batch_of(data)
    hidden = medusa.hidden(batch)
    for head in medusa.net(hidden).unbind(2):
        torch.testing.assert_close(head, models["ar"].net.head(hidden))
    parts = medusa.losses(batch)
    # By hand: head k at a token's place costs −log p of the token k further, where that is learnt.
    logp, learnt = models["ar"].net.head(hidden).log_softmax(-1).detach(), medusa.learnt(batch)
    for k in (1, 2):
        costs = [
            -float(logp[row, place, batch["tokens"][row, place + k]])
            for row, size in enumerate(batch["lengths"].tolist())
            for place in range(size - k)
            if learnt[row, place + k]
        ]
        assert float(parts[f"head_{k}"].detach()) == pytest.approx(sum(costs) / len(costs), rel=1e-5)
    expected = 0.8 * parts["head_1"] + 0.64 * parts["head_2"]
    torch.testing.assert_close(parts["loss"], expected)
    # An attached base does not overwrite heads that have learnt.
    with torch.no_grad():
        medusa.net.out[0].weight += 1
    kept = medusa.net.out[0].weight.clone()
    medusa.attach("base", models["ar"])
    assert torch.equal(medusa.net.out[0].weight, kept)


def test_passes_guesses_in_training_are_those_of_decoding(models, data):
    """The cost of each look-ahead token, asked among others in one evaluation, is that of asking it alone."""
    ahead = models["pass"]
    ahead.recipe = {"seed": 1}
    batch = batch_of(data, 3)
    loss = ahead.losses(batch)["loss"]
    costs = []
    before = ahead.base.shifted(batch)
    for row, place in ((row, int(place)) for row, places in enumerate(ahead._places(batch)) for place in places):
        size = place + 1 + ahead.ahead
        reading = torch.cat([before[row, : place + 1], torch.tensor(ahead.look_ahead)])[None]
        visible = torch.ones(1, size, size, dtype=torch.bool).tril()
        logits = ahead.causal(reading, torch.arange(size)[None], visible, None)[0, place + 1 :]
        for j, row_logits in enumerate(logits.log_softmax(-1).detach()):
            if place + 1 + j < int(batch["lengths"][row]):
                costs.append(-float(row_logits[batch["tokens"][row, place + 1 + j]]))
    assert float(loss.detach()) == pytest.approx(sum(costs) / len(costs), rel=1e-4)
    loss.backward()
    assert all(float(row.abs().sum()) > 0 for row in ahead.net.weight.grad)
    assert all(parameter.grad is None for parameter in ahead.base.parameters())


@pytest.mark.parametrize("kind", [Medusa, PaSS])
def test_training_lowers_the_loss_and_leaves_the_base_alone(models, data, kind):
    model = fresh(kind, data.describe(), 3, dim=32).train()
    model.attach("base", models["ar"])
    model.recipe = {"seed": 1}
    base = {name: value.clone() for name, value in models["ar"].state_dict().items()}
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    losses = []
    for _ in range(12):
        parts = model.losses(batch_of(data, 8))
        optimizer.zero_grad()
        parts["loss"].backward()
        optimizer.step()
        losses.append(float(parts["loss"].detach()))
    assert losses[-1] < 0.95 * losses[0]
    assert all(torch.equal(value, base[name]) for name, value in models["ar"].state_dict().items())


def test_what_is_committed_is_told_as_it_is(models):
    from unisono_text.filling.generate import watched

    model, blocks = models["ar"], []
    with watched(model, on_block=blocks.append):
        text = model.synthesize([ContinueRequest(text="Ada", length=16, decoding="jacobi", seed=2)])[0]
    assert blocks[-1].so_far == text.text
    assert len(blocks) == text.facts["steps"]
    assert all(a.stop == b.start for a, b in itertools.pairwise(blocks))
