"""Paraformer: CIF and compressed posteriors against their definitions, both passes, refinement, MWER."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from recognisers import drawn, made_batch, make_recogniser
from refused import refused
from torch.nn import functional as F
from unisono.duration import Alignment, IntegrateAndFire, box
from unisono.errors import RecipeError
from unisono_asr.models.mwer import mwer_loss
from unisono_asr.networks.ctc import distance, greedy
from unisono_asr.networks.decoder import Reader
from unisono_asr.networks.predictors import TAIL, IntegrateAndFirePredictor, PosteriorPredictor

CIF = "--model.predictor=cif"
BOTH = pytest.mark.parametrize("predictor", ["ctc", "cif"])


def make(*overrides):
    return make_recogniser("asr/paraformer-tiny", *overrides)


# ---- continuous integrate-and-fire ----------------------------------------------------------------


def fired(alpha, x):
    """CIF by the loop of Dong & Xu's figure 2: accumulate, fire at 1, split the step at the boundary."""
    tokens, total, vector = [], 0.0, torch.zeros_like(x[0], dtype=torch.float64)
    for weight, step in zip(alpha.tolist(), x.double(), strict=True):
        if total + weight < 1 - 1e-9:
            total, vector = total + weight, vector + weight * step
            continue
        used = 1 - total
        tokens.append(vector + used * step)
        total, vector = weight - used, (weight - used) * step
    return tokens, total, vector


@given(st.lists(st.floats(0.01, 0.99), min_size=2, max_size=30))
@settings(max_examples=60, deadline=None)
def test_the_cores_box_is_cif_and_its_sums_are_kept(weights):
    alpha, x = torch.tensor(weights, dtype=torch.float64), drawn(len(weights), 3)
    found, alignment = box(x.double()[None], alpha[None], tail=1 - TAIL)
    expected, rest, vector = fired(alpha, x)
    if rest >= 1 - TAIL:
        expected.append(vector)  # less than a token, and not scaled up to one
    assert len(found[0]) == len(expected) == math.floor(sum(weights) + TAIL + 1e-6)
    for one, other in zip(found[0], expected, strict=True):
        assert torch.allclose(one, other, atol=1e-6)
    shares = alignment.matrix()[0]
    whole = torch.ones(len(shares), dtype=shares.dtype)
    if rest >= 1 - TAIL:
        whole[-1] = rest
    assert torch.allclose(shares.sum(1), whole, atol=1e-6)
    assert float(shares.sum()) == pytest.approx(min(sum(weights), len(expected)), abs=1e-6)


def test_one_hot_weights_gather_their_steps():
    x, places = drawn(1, 9, 4), [1, 4, 5, 8]
    alpha = torch.zeros(1, 9).index_fill(1, torch.tensor(places), 1.0)
    tokens, alignment = box(x, alpha, tail=1 - TAIL)
    assert alignment.tgt_lengths.tolist() == [4] and torch.allclose(tokens[0], x[0, places], atol=1e-6)


@pytest.mark.parametrize("cuts", [(5, 25), (1,) * 30, (29, 1)])
def test_a_stream_of_cif_is_the_whole(cuts):
    x, alpha = drawn(30, 4), torch.rand(30, generator=torch.Generator().manual_seed(3))
    whole, _ = box(x[None], alpha[None], tail=1 - TAIL)
    stream = IntegrateAndFire(tail=1 - TAIL)
    joined = [stream.push(part, own) for part, own in zip(x.split(cuts), alpha.split(cuts), strict=True)]
    joined = torch.cat([*joined, stream.flush()])
    assert joined.shape == whole[0].shape and torch.allclose(joined, whole[0], atol=1e-5)


def test_no_token_is_lost_in_a_long_recording():
    """A tenth of a token in each of 100,000 steps: sums in single precision lose a token, those of the core do not."""
    single = np.cumsum(np.full(100_000, 0.1, np.float32), dtype=np.float32)
    assert abs(float(single[-1]) - 10_000) > 1
    ends = Alignment.from_durations(torch.full((1, 100_000), 0.1, dtype=torch.float64)).ends[0]
    exact = torch.arange(1, 100_001, dtype=torch.float64) / 10
    assert (ends - exact).abs().max() < 1e-6
    predictor, memory, steps = IntegrateAndFirePredictor(2, 3), torch.zeros(1, 100_000, 2), torch.tensor([100_000])
    with torch.no_grad():
        predictor.weight.weight.zero_()
        predictor.weight.bias.fill_(math.log(1 / 9999))  # a token every 10,000 steps
        found = predictor.free(memory, torch.zeros(1, 100_000, 3), steps)
    assert predictor.weights(memory, steps).dtype == torch.float64
    assert found.lengths.tolist() == [10] and float(found.count) == pytest.approx(10, abs=1e-5)


@pytest.mark.parametrize("lengths", [(20, 13), (13, 20)])
def test_guided_cif_fires_as_often_as_it_is_told(lengths):
    torch.manual_seed(0)
    predictor, memory = IntegrateAndFirePredictor(6, 3), drawn(2, 20, 6)
    steps, counts = torch.tensor(lengths), torch.tensor([3, 7])
    found = predictor.guided(memory, torch.zeros(2, 20, 3), steps, torch.ones(2, 7, dtype=torch.long), counts)
    assert found.embeddings.shape == (2, 7, 6) and found.lengths.tolist() == [3, 7]
    alpha = predictor.weights(memory, steps)
    assert torch.allclose(found.count, alpha.sum(1)) and not alpha[0, lengths[0] :].any()
    scaled = alpha[0] * 3 / alpha[0].sum()
    tokens, _, _ = fired(scaled, memory[0])
    assert torch.allclose(found.embeddings[0, :2].double(), torch.stack(tokens[:2]), atol=1e-5)
    found.embeddings.square().sum().backward()
    assert predictor.weight.weight.grad.abs().sum() > 0


def test_cif_is_summed_outside_of_autocast():
    torch.manual_seed(0)
    predictor, memory, lengths = IntegrateAndFirePredictor(6, 3), drawn(1, 50, 6), torch.tensor([50])
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        alpha = predictor.weights(memory, lengths)
        found = predictor.free(memory, torch.zeros(1, 50, 3), lengths)
    assert alpha.dtype == torch.float64 and found.embeddings.dtype == torch.float32
    assert torch.equal(found.embeddings, box(memory, alpha, lengths, tail=1 - TAIL)[0])


# ---- compressed posteriors -------------------------------------------------------------------------


def test_compressed_posteriors_are_means_along_the_path():
    torch.manual_seed(0)
    predictor, log_probs = PosteriorPredictor(4, 3), drawn(2, 6, 3).log_softmax(-1)
    lengths = torch.tensor([6, 4])
    free = predictor.free(drawn(2, 6, 4), log_probs, lengths)
    path = greedy(log_probs, lengths)
    for row in range(2):
        for number, (start, stop) in enumerate(path.spans(row)):
            mean = log_probs[row, start:stop].exp().mean(0)
            assert torch.allclose(free.embeddings[row, number], predictor.embed(mean), atol=1e-6)
    targets, counts = torch.tensor([[1, 2, 1], [2, 2, 0]]), torch.tensor([3, 2])
    guided = predictor.guided(drawn(2, 6, 4), log_probs, lengths, targets, counts)
    assert guided.embeddings.shape == (2, 3, 4) and guided.lengths.tolist() == [3, 2]
    assert not guided.embeddings[1, 2].any()


def test_where_ctc_is_sure_guided_and_free_are_one():
    labels = torch.tensor([[1, 1, 0, 2, 0, 2, 1, 1]])
    log_probs = (F.one_hot(labels, 3) * 12.0).log_softmax(-1)
    predictor, memory, lengths = PosteriorPredictor(4, 3), drawn(1, 8, 4), torch.tensor([8])
    guided = predictor.guided(memory, log_probs, lengths, torch.tensor([[1, 2, 2, 1]]), torch.tensor([4]))
    assert torch.equal(guided.embeddings, predictor.free(memory, log_probs, lengths).embeddings)


# ---- two passes -------------------------------------------------------------------------------------


def told(parts):
    """Losses as numbers."""
    return {name: value.item() for name, value in parts.items()}


def parts_of(model, batch):
    """A batch's reader, as training has it."""
    heard = model.heard(model.standardised(batch["mel"]), batch["mel_lengths"])
    acoustic = model.predictor.guided(
        heard.memory, heard.log_probs, heard.lengths, batch["targets"], batch["target_lengths"]
    )
    return Reader(model.decoder, acoustic, heard.memory, heard.lengths)


@BOTH
def test_a_sampler_of_none_is_the_plain_pass(predictor):
    model, batch = make(f"--model.predictor={predictor}", "--model.objective.glance=0"), made_batch()
    reader = parts_of(model, batch)
    hidden, logits = model.second_pass(reader, batch, [1, 2, 3])
    assert torch.equal(hidden, reader.acoustic.mask)
    assert torch.equal(logits, reader(torch.zeros_like(batch["targets"]), ~hidden))


def test_a_sampler_of_all_replaces_all_that_was_wrong():
    model, batch = make("--model.objective.glance=1"), made_batch()
    reader = parts_of(model, batch)
    with torch.no_grad():
        model.decoder.out.bias[0] = 50.0  # the blank is never named, however likely
        first = reader(torch.zeros_like(batch["targets"]), ~reader.acoustic.mask)[..., 1:].argmax(-1) + 1
        hidden, logits = model.second_pass(reader, batch, [1, 2, 3])
        right = (first == batch["targets"]) & reader.acoustic.mask
        assert torch.equal(hidden.sum(1), right.sum(1))
        assert torch.equal(logits, reader(batch["targets"] * ~hidden, ~hidden))


def test_the_share_that_is_shown_is_floor_of_ratio_times_wrong():
    model, batch = make(), made_batch()
    reader = parts_of(model, batch)
    first = reader(torch.zeros_like(batch["targets"]), ~reader.acoustic.mask)[..., 1:].argmax(-1) + 1
    hidden, _ = model.second_pass(reader, batch, [1, 2, 3])
    wrong = ((first != batch["targets"]) & reader.acoustic.mask).sum(1)
    assert (reader.acoustic.mask & ~hidden).sum(1).tolist() == [math.floor(0.4 * int(n) + 1e-9) for n in wrong]
    assert int(wrong.max()) > 2


def test_no_gradient_reaches_the_first_pass():
    model, batch = make(), made_batch()
    reader, passes = parts_of(model, batch), []
    plain = reader.decoder.forward

    def watched(*args):
        made = plain(*args)
        passes.append(made)
        return made

    reader.decoder.forward = watched
    _, logits = model.second_pass(reader, batch, [1, 2, 3])
    assert len(passes) == 2 and not passes[0].requires_grad and passes[0].grad_fn is None
    assert passes[1] is logits and logits.requires_grad


@BOTH
def test_losses_are_their_formula(predictor):
    model = make(f"--model.predictor={predictor}", "--model.objective.glance=0").train()
    batch = made_batch()
    model.augment = lambda mel, lengths, seeds: mel
    parts = told(model.losses(batch))
    reader = parts_of(model, batch)
    logits = reader(torch.zeros_like(batch["targets"]), ~reader.acoustic.mask)[..., 1:].detach().log_softmax(-1)
    total = 0.0
    for row, count in enumerate((5, 9, 6)):
        for place in range(count):
            own = logits[row, place]
            total -= float(0.9 * own[batch["targets"][row, place] - 1] + 0.1 * own.mean())
    assert parts["ce"] == pytest.approx(total / 20, rel=1e-4)
    expected = 0.3 * parts["ctc"] + 0.7 * parts["ce"]
    if predictor == "cif":
        off = (reader.acoustic.count - batch["target_lengths"]).abs().sum() / 20
        assert parts["count"] == pytest.approx(off.item(), rel=1e-4)
        expected += parts["count"]
    assert parts["loss"] == pytest.approx(expected, rel=1e-5)


@BOTH
def test_validation_is_not_told_the_truth(predictor):
    """The same sounds with other transcripts read the same; only their marks differ."""
    model, batch = make(f"--model.predictor={predictor}"), made_batch()
    read = []
    plain = model.errors
    model.errors = lambda found, *rest: read.append([one.tokens for one in found]) or plain(found, *rest)
    with torch.no_grad():
        model.losses(batch)
        model.losses(batch | {"targets": batch["targets"][:, :4], "target_lengths": torch.tensor([2, 4, 3])})
    assert read[:2] == read[2:]


# ---- reading ----------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("steps", [1, 3])
def test_alone_is_in_a_batch_with_ten_seconds_of_padding(predictor, steps):
    model, batch = make(f"--model.predictor={predictor}"), made_batch()
    mel = F.pad(model.standardised(batch["mel"]), (0, 0, 0, 1000), value=3.0)
    together = model.decode(model.heard(mel, batch["mel_lengths"]), steps)
    for row, size in enumerate(batch["mel_lengths"].tolist()):
        (alone,) = model.decode(model.heard(mel[row : row + 1, :size], batch["mel_lengths"][row : row + 1]), steps)
        assert alone.tokens == together[row].tokens and alone.spans == together[row].spans
        assert alone.confidences == pytest.approx(together[row].confidences, abs=1e-4)
        assert len(alone.tokens) > 1 and 0 not in alone.tokens
        assert all(0 <= start < stop <= -(-size // 4) for start, stop in alone.spans)


def test_one_pass_is_the_likeliest_of_each_and_more_settle_the_surest_first():
    model, batch = make(), made_batch()
    with torch.no_grad():
        heard = model.heard(model.standardised(batch["mel"]), batch["mel_lengths"])
        acoustic = model.predictor.free(heard.memory, heard.log_probs, heard.lengths)
        reader = Reader(model.decoder, acoustic, heard.memory, heard.lengths)
        first = reader(torch.zeros(acoustic.mask.shape, dtype=torch.long), ~acoustic.mask)[..., 1:].softmax(-1)
        sure, tokens = first.max(-1)
        one, (ones, of_ones) = model.decode(heard), model.read(acoustic, heard, 1)
        assert torch.equal(ones * acoustic.mask, (tokens + 1) * acoustic.mask)
        assert torch.allclose(of_ones * acoustic.mask, sure * acoustic.mask, atol=1e-6)
        assert one[0].tokens == tuple((tokens + 1)[0, : len(one[0].tokens)].tolist())
        more, of_more = model.read(acoustic, heard, 3)
        for row in range(3):
            best = int((sure[row] * acoustic.mask[row]).argmax())
            assert int(more[row, best]) == int(tokens[row, best]) + 1
            assert float(of_more[row, best]) == pytest.approx(float(sure[row, best]), rel=1e-5)


@BOTH
def test_what_is_not_heard_is_not_read(predictor):
    model = make(f"--model.predictor={predictor}")
    with torch.no_grad():
        model.to_units.bias[0] = 100.0
        if predictor == "cif":
            model.predictor.weight.bias.fill_(-20.0)
        (read,) = model.decode(model.heard(drawn(1, 40, 80), torch.tensor([40])), 4)
    assert read.tokens == read.confidences == read.spans == ()


def test_cif_tokens_that_ctc_has_no_room_for_share_the_steps():
    model = make(CIF)
    with torch.no_grad():
        model.decoder.out.bias[3] = 100.0  # one unit again and again
        model.predictor.weight.bias.fill_(20.0)
        heard = model.heard(drawn(1, 40, 80), torch.tensor([40]))
        (read,) = model.decode(heard)
    assert read.tokens == (3,) * 10 and read.spans == tuple((place, place + 1) for place in range(10))


# ---- minimum word error rate ------------------------------------------------------------------------


def test_mwer_is_the_expected_number_of_wrong_units():
    logits, targets, counts = drawn(2, 5, 4).requires_grad_(), torch.randint(0, 4, (2, 5)), torch.tensor([5, 3])
    found = mwer_loss(logits, targets, counts, 3, 0.5, [7, 8])
    for row, count in enumerate((5, 3)):
        lost = torch.rand(3, count, generator=torch.Generator().manual_seed(7 + row)) < 0.5
        lost[0] = False
        log_probs = logits[row, :count].log_softmax(-1)
        two = log_probs.topk(2, -1)
        chances, wrong = [], []
        for hypothesis in lost.tolist():
            own = [int(two.indices[place, int(gone)]) for place, gone in enumerate(hypothesis)]
            chances.append(sum(log_probs[place, unit] for place, unit in enumerate(own)))
            wrong.append(distance(own, targets[row, :count].tolist()))
        share = torch.stack(chances).softmax(0)
        mean = sum(wrong) / 3
        expected = sum(p.item() * (w - mean) for p, w in zip(share, wrong, strict=True))
        assert found[row].item() == pytest.approx(expected, abs=1e-5)
    found.sum().backward()
    assert torch.isfinite(logits.grad).all() and logits.grad.abs().sum() > 0


def test_mwer_joins_the_loss_where_it_is_asked_for():
    batch = made_batch()
    plain, more = make("--model.objective.mwer=0"), make("--model.objective.mwer=2")
    plain, more = told(plain.train().losses(batch)), told(more.train().losses(batch))
    assert "mwer" not in plain
    assert more["loss"] == pytest.approx(plain["loss"] + 2 * more["mwer"], rel=1e-4)


@pytest.mark.parametrize(
    "change, code, path",
    [
        ("--model.objective.glance=1.5", "range", "model.objective.glance"),
        ("--model.objective.count=-1", "range", "model.objective.count"),
        ("--model.objective.hypotheses=1", "range", "model.objective.hypotheses"),
        ("--model.decoder.num_blocks=0", "range", "model.decoder.num_blocks"),
        ("--model.decoder.num_heads=5", "value", "model.decoder.num_heads"),
    ],
)
def test_settings_that_cannot_be_are_refused(change, code, path):
    with refused(RecipeError, code, path):
        make(change)
