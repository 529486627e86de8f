"""ParScale: one stream is the network, streams may change places, and a cache keeps each of them."""

import math

import pytest
import torch
from refused import refused
from torch.nn import functional as F
from unisono.errors import DataError, RecipeError, RequestError
from unisono.verify import autoregressive, decode
from unisono_branches.corpus.bytes import ByteData
from unisono_branches.measure.bytes import BITS, WEIGHTS, bits_per_byte, evaluate
from unisono_branches.network.sight import causal_sight
from unisono_branches.network.sizes import NetworkSizes
from unisono_branches.parscale.model import START, ParScale
from unisono_branches.parscale.streams import StreamCache, Streams

SIZES = NetworkSizes(dim=16, num_layers=2, num_heads=2)


def streams(count: int, **more) -> Streams:
    made = Streams(11, SIZES, num_streams=count, prefix_length=5, **more)
    generator = torch.Generator().manual_seed(count)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return made


def tokens(b=3, t=9, seed=0):
    return torch.randint(0, 11, (b, t), generator=torch.Generator().manual_seed(seed))


def test_one_stream_is_the_network_exactly():
    one, given = streams(1), tokens()
    assert torch.equal(one(given), one.net(given, causal_sight(given, SIZES.head_dim)))
    assert {name for name, _ in one.named_parameters()} == {f"net.{name}" for name, _ in one.net.named_parameters()}


def test_streams_that_change_places_with_their_weights_give_the_same():
    some, given = streams(3), tokens()
    before, order = some(given), torch.tensor([2, 0, 1])
    shares = some.weights(some.states(given))
    with torch.no_grad():
        for prefix in (some.prefix_keys, some.prefix_values):
            prefix.copy_(prefix[:, order].clone())
        some.weigh_in.weight.copy_(some.weigh_in.weight.unflatten(1, (3, SIZES.dim))[:, order].flatten(1).clone())
        some.weigh_out.weight.copy_(some.weigh_out.weight[order].clone())
        some.weigh_out.bias.copy_(some.weigh_out.bias[order].clone())
    assert (some(given) - before).abs().max() < 1e-5
    assert (some.weights(some.states(given)) - shares[order]).abs().max() < 1e-6
    assert (some.states(given)[0] - some.states(given)[1]).abs().max() > 1e-3


def test_a_stream_is_the_network_behind_its_prefix_by_hand():
    """One layer's keys and values, one query at a time, prefix first."""
    some, given = streams(2), tokens(1, 4)
    got = some.states(given)
    for stream in range(2):

        class Hand:
            def __init__(self, stream=stream):
                self.stream = stream

            def __call__(self, layer, q, k, v):
                plain = causal_sight(given, SIZES.head_dim)
                from unisono.nn.rotary import rotate

                q, k = rotate(q, plain.places), rotate(k, plain.places)
                out = []
                for at in range(q.shape[2]):
                    keys = torch.cat([some.prefix_keys[layer, self.stream][None], k[:, :, : at + 1]], 2)
                    values = torch.cat([some.prefix_values[layer, self.stream][None], v[:, :, : at + 1]], 2)
                    share = (q[:, :, at : at + 1] @ keys.mT / math.sqrt(SIZES.head_dim)).softmax(-1)
                    out.append((share @ values).flatten(1)[:, None])
                return torch.cat(out, 1)

        assert (some.net.hidden(given, Hand()) - got[stream]).abs().max() < 1e-5


def test_no_stream_is_left_out():
    some = streams(4, smoothing=0.2)
    with torch.no_grad():
        some.weigh_out.bias.copy_(torch.tensor([50.0, 0, 0, 0]))
    share = some.weights(some.states(tokens()))
    assert (share.sum(0) - 1).abs().max() < 1e-6 and share.min() >= 0.2 / 4 - 1e-6


def test_prefixes_begin_as_numbers_and_not_as_what_memory_held():
    made = Streams(11, SIZES, num_streams=4, prefix_length=48)
    for prefix in (made.prefix_keys.detach(), made.prefix_values.detach()):
        assert prefix.isfinite().all() and 0.01 < float(prefix.std()) < 0.04
        assert (prefix[:, 0] - prefix[:, 1]).abs().max() > 0  # or all streams would stay one


@pytest.mark.parametrize("count", [1, 3])
def test_with_a_cache_the_tokens_are_those_without(make, count):
    model = make("parscale", f"--model.num_streams={count}").model
    prompt, lengths = torch.randint(0, 256, (3, 6), generator=torch.Generator().manual_seed(1)), torch.tensor([6, 2, 4])
    out = [
        decode(
            model.read, prompt, autoregressive(), 14, seeds=[1, 2, 3], lengths=lengths, temperature=0.7, cache=cache
        ).tokens
        for cache in (None, lambda rows: StreamCache(rows, count))
    ]
    assert torch.equal(*out)
    logits = model.streams(out[0])[..., :START]
    assert logits.shape == (3, 14, START)


def test_a_path_of_a_tree_is_kept_in_every_stream():
    cache = StreamCache(2, 3)
    keys = torch.arange(6 * 4, dtype=torch.float32).view(6, 1, 4, 1)
    cache.folded.append(0, keys, keys)
    cache.advance(4)
    cache.select(torch.tensor([1, 1]), torch.tensor([[2], [1]]))
    cache.truncate(torch.tensor([2, 2]))
    assert cache.folded.layers[0][0][:, 0, 1, 0].tolist() == [3, 6, 11, 14, 19, 22]
    assert cache.length.tolist() == [2, 2] and cache.folded.length.tolist() == 6 * [2]


def test_losses_are_of_bytes_alone(make):
    model = make("parscale").model.eval()
    given = torch.randint(0, 256, (2, 8), generator=torch.Generator().manual_seed(0))
    before = F.pad(given[:, :-1], (1, 0), value=START)
    law = model.streams(before)[..., :START].log_softmax(-1)
    assert (model.cost(given) + law.gather(2, given[..., None])[..., 0]).abs().max() < 1e-5
    bits = bits_per_byte(model, given)
    assert abs(bits - float(model.cost(given).detach().mean()) / math.log(2)) < 1e-5


def test_rows_are_of_the_file_and_what_is_left_is_listed(tmp_path):
    path = tmp_path / "text.txt"
    path.write_bytes(bytes(range(256)) + b"tail")
    data = ByteData(root=str(path), context=16, batch_size=2)
    audit = data.prepare(progress=False)
    assert (len(data.train_set), len(data.val_set)) == (14, 1)
    assert audit.kept == 15 and set(audit.reasons) == {"no whole row"}
    assert data.train_set.item(1, torch.Generator())["tokens"].tolist() == list(range(16, 32))
    path.write_bytes(b"short")
    with refused(DataError, "empty", "data.root"):
        ByteData(root=str(path), context=16).prepare(progress=False)


@pytest.mark.parametrize(
    ("sizes", "path"),
    [
        ({"num_streams": 0}, "model.num_streams"),
        ({"prefix_length": 0}, "model.prefix_length"),
        ({"smoothing": 1.0}, "model.smoothing"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(sizes, path):
    with refused(RecipeError, "range", path):
        ParScale(**sizes)


def test_what_is_beyond_the_context_is_refused(make):
    with refused(RequestError, "limit", "length"):
        make("parscale")(text="ab", length=31)
    made = make("parscale")(text="é", length=30)
    assert made.text.startswith("é") and len(made.tokens) == 32 and made.order[:3] == (-1, -1, 0)


def test_it_is_measured_on_a_file(make, tmp_path):
    from unisono.export import save_export

    path = tmp_path / "text.txt"
    path.write_bytes(b"the river. the stone. " * 60)
    one = make("parscale", "--model.num_streams=1")
    save_export(one.model, tmp_path / "one")
    report = evaluate(make("parscale"), path, limit=3, against=[str(tmp_path / "one")])
    assert report.systems == ["model", "one"]
    assert 6 < report.value(BITS, "model") < 10 and report.value(WEIGHTS, "one") < report.value(WEIGHTS, "model")
    with refused(RecipeError, "type", "--against"):
        save_export(make("hogwild").model, tmp_path / "sorter")
        evaluate(one, path, against=[str(tmp_path / "sorter")])
