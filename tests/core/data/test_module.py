"""Resumed = uninterrupted and N processes = 1, as far as the data decides them."""

import copy
import pickle
from itertools import chain
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from refused import refused
from unisono.data import Audit, DataModule, ReplayableLoader, collate_items, item_generator
from unisono.errors import DataError


class Numbers:
    """Items that show which they are, and one random number each."""

    def __init__(self, num_items, offset=0):
        self.num_items = num_items
        self.offset = offset

    def __len__(self):
        return self.num_items

    def size(self, index):
        return (7 * index) % 13 + 1

    def item(self, index, generator):
        return {
            "index": index + self.offset,
            "draw": torch.rand((), generator=generator),
            "values": torch.ones(self.size(index)),
        }


class NumberData(DataModule):
    def __init__(self, num_items=46, num_val=7, batch_size=4, num_workers=0):
        super().__init__(batch_size, num_workers)
        self.num_items, self.num_val = num_items, num_val

    def prepare(self, progress=True):
        self.train_set = Numbers(self.num_items)
        self.val_set = Numbers(self.num_val, offset=1000)
        return self.finish(Audit())

    def describe(self):
        return {}

    def collate(self, items):
        return collate_items(items)


NUM_BATCHES = 46 // 4


def fake_trainer(rank=0, world_size=1, epoch=0, step=0):
    trainer = SimpleNamespace(
        global_rank=rank, world_size=world_size, num_training_batches=NUM_BATCHES, strategy=SimpleNamespace()
    )
    total = SimpleNamespace(completed=0)
    loop = SimpleNamespace(batch_progress=SimpleNamespace(total=total))
    trainer.fit_loop = SimpleNamespace(epoch_loop=loop)
    move(trainer, epoch, step)
    return trainer


def move(trainer, epoch, step=0):
    total = trainer.fit_loop.epoch_loop.batch_progress.total
    total.completed = epoch * trainer.num_training_batches + step


def module(trainer=None, **kwargs):
    data = NumberData(**kwargs)
    data.prepare()
    data.trainer = trainer
    return data


def shown(batches):
    return [[(i, round(d, 6)) for i, d in zip(b["index"].tolist(), b["draw"].tolist(), strict=True)] for b in batches]


def epoch_of(epoch, step=0, rank=0, world_size=1, **kwargs):
    data = module(fake_trainer(rank, world_size, epoch, step), **kwargs)
    return shown(data.train_dataloader())


def test_an_epoch_loses_and_doubles_nothing():
    batches = epoch_of(0)
    assert len(batches) == 11 and all(len(batch) == 4 for batch in batches)
    indices = [i for batch in batches for i, _ in batch]
    assert len(set(indices)) == 44
    assert module().audit.notes == ["2 of 46 training items, others each epoch, sit out: they fill no batch of 4"]


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize(("epoch", "step"), [(0, 0), (0, 5), (3, 1), (3, 10)])
def test_starting_anywhere_equals_arriving_there(epoch, step, num_workers):
    straight = epoch_of(epoch)
    assert epoch_of(epoch, step, num_workers=num_workers) == straight[step:]


def test_the_position_is_asked_for_when_the_first_batch_is_drawn():
    trainer = fake_trainer()
    iterator = iter(module(trainer).train_dataloader())
    move(trainer, 4, 3)
    assert shown(iterator) == epoch_of(4)[3:]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_two_processes_share_the_batches_of_one(num_workers):
    alone = epoch_of(1)
    ranks = [epoch_of(1, rank=r, world_size=2, num_workers=num_workers) for r in range(2)]
    for whole, left, right in zip(alone, *ranks, strict=True):
        assert whole[0::2] == left and whole[1::2] == right


def test_another_number_of_processes_may_go_on():
    rest = [epoch_of(1, 6, rank=r, world_size=4) for r in range(4)]
    for whole, parts in zip(epoch_of(1)[6:], zip(*rest, strict=True), strict=True):
        assert whole == [part[0] for part in parts]


def test_every_item_gets_its_row():
    for batch in module().train_dataloader():
        assert torch.equal(batch["row"], batch["index"])
    assert sorted(row for batch in module().val_dataloader() for row in batch["row"].tolist()) == list(range(7))


def test_an_item_that_says_another_row_is_refused():
    data = module()
    whole = data.train_set.item
    data.train_set.item = lambda index, generator: {**whole(index, generator), "row": "3rd"}
    with refused(DataError, "conflict", "row", value="3rd"):
        next(iter(data.train_dataloader()))


@pytest.mark.parametrize("seed", [1, 2**40 + 7])
def test_items_draw_from_the_runs_seed_the_epoch_and_their_index(seed):
    data = module(fake_trainer(epoch=3))
    data.seed = seed
    for batch in data.train_dataloader():
        for index, draw in zip(batch["index"].tolist(), batch["draw"].tolist(), strict=True):
            assert draw == pytest.approx(float(torch.rand((), generator=item_generator(seed, 3, index))))
    for batch in data.val_dataloader():
        for index, draw in zip(batch["row"].tolist(), batch["draw"].tolist(), strict=True):
            assert draw == pytest.approx(float(torch.rand((), generator=item_generator(seed, "validation", index))))


class LateData(NumberData):
    """A description of what only ``prepare`` finds."""

    def describe(self):
        return {"alphabet": self.alphabet}


class HeldData(NumberData):
    """Facts in the place where the base looks for them."""

    describe = DataModule.describe

    def prepare(self, progress=True):
        self.facts = {"count": 3}
        return super().prepare(progress)


@pytest.mark.parametrize("kind", [LateData, HeldData])
def test_describe_before_prepare_is_one_sentence(kind):
    data = kind()
    with refused(DataError, "state", names="call prepare() first"):
        data.describe()
    data.prepare()
    if kind is HeldData:
        assert data.describe() == {"count": 3}
    else:
        with pytest.raises(AttributeError):  # a bug of the data set, which stays what it is
            data.describe()


def test_epochs_draw_anew_and_seeds_matter():
    draws = [{draw for batch in epoch_of(epoch) for _, draw in batch} for epoch in (0, 1)]
    assert not draws[0] & draws[1]
    data = module()
    data.seed = 1
    assert shown(data.train_dataloader()) != epoch_of(0)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_epoch_left_early_does_not_spoil_the_next(num_workers):
    trainer = fake_trainer()
    loader = module(trainer, num_workers=num_workers).train_dataloader()
    iterator = iter(loader)
    next(iterator)
    del iterator
    move(trainer, 1)
    assert shown(loader) == epoch_of(1)


def test_validation_is_whole_the_same_each_time_and_shared():
    data = module()
    loader = data.val_dataloader()
    first = shown(loader)
    assert shown(loader) == first
    indices = sorted(i for batch in first for i, _ in batch)
    assert indices == list(range(1000, 1007))
    ranks = []
    for rank in range(2):
        ranks.append(shown(module(fake_trainer(rank, 2, epoch=5)).val_dataloader()))
    for whole, left, right in zip(first, *ranks, strict=True):
        assert whole[0::2] == left and whole[1::2] == right


def test_no_validation():
    assert module(num_val=0).val_dataloader() == []


def test_loaders_leave_the_global_generator_alone():
    state = torch.random.get_rng_state()
    data = module()
    list(data.train_dataloader())
    list(data.val_dataloader())
    list(module(num_workers=2).train_dataloader())
    assert torch.equal(torch.random.get_rng_state(), state)


def test_refusals():
    with refused(DataError, "value", "data.batch_size", value=3, names="use a multiple of 2"):
        module(fake_trainer(world_size=2), batch_size=3).train_dataloader()
    with refused(DataError, "limit", "data.batch_size", value=64, names="at most 46"):
        module(batch_size=64).train_dataloader()
    with refused(DataError, "limit", "devices", value=2, names="a batch of 1 items"):
        module(fake_trainer(world_size=2), num_val=1).val_dataloader()
    with refused(DataError, "range", "data.num_workers", value=-1):
        module(num_workers=-1)


def test_a_run_goes_on_with_its_own_data_only():
    state = module().train_dataloader().state_dict()
    module(num_workers=2).train_dataloader().load_state_dict(state)
    with refused(DataError, "conflict", "num_items", value=40, names="46"):
        module(num_items=40).train_dataloader().load_state_dict(state)
    with refused(DataError, "conflict", "batch_size", value=8, names="batch_size=4"):
        module(batch_size=8).train_dataloader().load_state_dict(state)
    other = module()
    other.seed = 5
    with refused(DataError, "conflict", "seed", value=5, names="seed=0"):
        other.train_dataloader().load_state_dict(state)


def test_one_epoch_shows_the_batches_of_the_first_in_each():
    data = module(fake_trainer(epoch=3))
    data.one_epoch = True
    assert shown(data.train_dataloader()) == epoch_of(0) != epoch_of(3)
    move(data.trainer, 2, step=5)
    assert shown(data.train_dataloader()) == epoch_of(0)[5:]


def test_more_workers_than_cores_do_not_warn():
    # a warning is an error in these tests
    module(num_workers=64).train_dataloader()
    module(num_workers=64).val_dataloader()


def test_it_travels_to_workers_without_its_trainer():
    data = module(SimpleNamespace(trainer_that_cannot_be_pickled=lambda: 0))
    assert pickle.loads(pickle.dumps(data.collate)).__self__.trainer is None
    assert data.trainer is not None


# ---- with Lightning's own loops ------------------------------------------------------------------


class Net(LightningModule):
    """One weight, moved by every item that it sees."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen = []

    def training_step(self, batch, batch_idx):
        self.seen.append((self.current_epoch, tuple(batch["index"].tolist())))
        target = batch["draw"].mean() + batch["index"].float().mean()
        return (self.weight - target).square()

    def validation_step(self, batch, batch_idx):
        pass

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)


class SaveAt(Callback):
    """Save at a step, by the hook that a kill could fall behind."""

    def __init__(self, path, step, hook):
        self.path, self.step, self.hook = path, step, hook

    def save(self, trainer, hook):
        if hook == self.hook and trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)

    def on_train_batch_end(self, trainer, *args):
        self.save(trainer, "batch")

    def on_validation_end(self, trainer, net):
        if not trainer.sanity_checking:
            self.save(trainer, "validation")

    def on_train_epoch_end(self, trainer, net):
        self.save(trainer, "epoch")


def fit(tmp_path, callbacks=(), ckpt_path=None, num_workers=0, **kwargs):
    net, data = Net(), NumberData(num_workers=num_workers)
    trainer = Trainer(
        default_root_dir=tmp_path,
        accelerator="cpu",
        max_steps=30,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=list(callbacks),
        **kwargs,
    )
    trainer.fit(net, data, ckpt_path=ckpt_path)
    return net


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # Lightning 2.6 with torch 2.13
@pytest.mark.parametrize(
    ("step", "hook"),
    [(1, "batch"), (5, "batch"), (11, "batch"), (11, "epoch"), (11, "validation"), (12, "batch"),
     (16, "validation"), (22, "epoch"), (27, "batch")],
)  # fmt: skip
def test_a_run_resumed_by_lightning_sees_what_an_uninterrupted_one_sees(tmp_path, step, hook):
    interval = 5 if (step, hook) == (16, "validation") else 1.0
    path = tmp_path / "at.ckpt"
    straight = fit(tmp_path, [SaveAt(path, step, hook)], val_check_interval=interval)
    assert path.exists()
    assert len(straight.seen) == 30
    workers = 2 if step == 5 else 0
    resumed = fit(tmp_path, ckpt_path=path, num_workers=workers, val_check_interval=interval)
    assert [batch for _, batch in resumed.seen] == [batch for _, batch in straight.seen[step:]]
    assert torch.equal(resumed.weight, straight.weight)
    torch.load(path, weights_only=True)


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")
def test_a_limited_epoch_is_the_start_of_a_whole_one(tmp_path):
    net = fit(tmp_path, limit_train_batches=4)
    batches = chain.from_iterable(epoch_of(epoch)[:4] for epoch in range(8))
    expected = [tuple(index for index, _ in batch) for batch in batches]
    assert [batch for _, batch in net.seen] == expected[:30]


def test_lightning_puts_no_sampler_of_its_own_into_it():
    loader = module().train_dataloader()
    assert isinstance(loader, ReplayableLoader)
    from lightning.pytorch.trainer.connectors.data_connector import _process_dataloader
    from lightning.pytorch.trainer.states import RunningStage, TrainerFn

    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, barebones=True)
    before = copy.copy(loader.__dict__)
    processed = _process_dataloader(trainer, TrainerFn.FITTING, RunningStage.TRAINING, loader)
    assert processed is loader and loader.__dict__ == before


class CodedData(NumberData):
    uses = ("codec",)


def test_components_that_items_are_made_with():
    data = CodedData(4)
    with refused(DataError, "missing", "components.codec", names="--components.codec=FOLDER"):
        data.component("codec")
    with refused(DataError, "unknown", "components.vocoder", value="vocoder"):
        data.attach("vocoder", object())
    codec = object()
    data.attach("codec", codec)
    assert data.component("codec") is codec
    assert pickle.loads(pickle.dumps(data))._components == {}  # workers read items, they make none
