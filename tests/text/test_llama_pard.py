"""text/llama-pard: masks in the rows that no token has; and drafts and transfers on networks of published sizes."""

import flat
import pytest
import torch
from refused import refused
from unisono.errors import DataError
from unisono.recipe import Recipe
from unisono_text.corpus.data import ToyData
from unisono_text.lossless.hidden_transfer import HiddenTransfer
from unisono_text.lossless.llama_pard import LlamaPARD
from unisono_text.lossless.mask_chains import ChainSpec
from unisono_text.lossless.parallel_spec import ParallelSpec
from unisono_text.lossless.request import ContinueRequest
from unisono_text.models.large import LargeSizes
from unisono_text.models.sizes import TransformerSizes

SIZES = LargeSizes(32, 2, 4, 2, 48, biased=True, tied=True)
CHAIN = ChainSpec(num_draft=4)


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
    model.recipe = {"seed": 1}
    return model.eval()


@pytest.fixture(scope="module")
def target(data):
    """A draft without masks is an autoregressive model."""
    made = fresh(LlamaPARD, data.describe(), 0, network=SIZES, chain=CHAIN)
    with torch.no_grad():
        made.net.embedding.weight.mul_(12)
    return made


def ask(model, decoding, temperature=1.0):
    texts = ["Ada has 3 ", "", "Ben"]
    return [
        text.text
        for text in model.synthesize(
            [
                ContinueRequest(text=text, length=14 + 2 * i, decoding=decoding, temperature=temperature, seed=i)
                for i, text in enumerate(texts)
            ]
        )
    ]


def test_masks_are_the_first_rows_that_no_token_has(data, target):
    first = max(target.vocabulary, target.start_id + 1)
    assert target.mask_ids == (first,) * 3
    assert target.predict(torch.tensor([[1, first]])).shape == (1, 2, target.vocabulary)
    own = fresh(LlamaPARD, data.describe(), 0, network=SIZES, chain=ChainSpec(num_draft=4, own_masks=True))
    assert own.mask_ids == (first, first + 1, first + 2) and len(own.net.embedding.weight) == first + 3
    small = LargeSizes(32, 2, 4, 2, 48, rows=first)
    with refused(DataError, "range", "model.network.rows", value=first, names=str(first + 1)):
        fresh(LlamaPARD, data.describe(), 0, network=small, chain=CHAIN)


def test_it_drafts_for_one_of_its_family(data, target):
    draft = fresh(LlamaPARD, data.describe(), 1, network=SIZES, chain=CHAIN)
    draft.load_state_dict(target.state_dict())
    with torch.no_grad():
        for parameter in draft.parameters():
            parameter += 0.01 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    target.attach("draft", draft)
    for temperature in (0.0, 1.0):
        assert ask(target, "pard", temperature) == ask(target, "plain", temperature)


@pytest.mark.parametrize("kind", ["float32", "bfloat16"])
def test_it_is_a_base_of_drafts_on_states_and_of_transfers(data, kind):
    sizes = LargeSizes(32, 2, 4, 2, 48, biased=True, tied=True, kind=kind)
    base = fresh(LlamaPARD, data.describe(), 0, network=sizes, chain=CHAIN)
    on_states = fresh(ParallelSpec, data.describe(), 1, dim=32, network=TransformerSizes(dim=16, num_layers=1,
                      num_heads=2, dropout=0.0), chain=CHAIN)  # fmt: skip
    transfer = fresh(HiddenTransfer, data.describe(), 1, dim=32, layers=(1, 1))
    batch = data.collate([{**data.train_set.item(i, torch.Generator()), "row": i} for i in range(3)])
    for model, decoding in ((on_states, "parallelspec"), (transfer, "hidden-transfer")):
        model.attach("base", base)
        model.losses(batch)["loss"].backward()
        assert all(parameter.grad is not None for parameter in model.parameters())
        if kind == "float32":  # rounding to eight bits decides between tokens of an untrained model
            assert ask(model, decoding) == ask(base, "plain")
        else:
            assert len(ask(model, decoding)) == 3


def test_the_recipe_of_published_size_is_that_of_the_published_draft():
    given = ["--data.root=x", "--data.corpus.tokenizer=y", "--run.init_from=z"]
    model = Recipe.read("text/pard-qwen", given).model
    assert (model["chain"]["num_draft"], model["chain"]["keep"], model["chain"]["least"]) == (8, 0.7, 0.2)
