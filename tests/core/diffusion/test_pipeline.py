"""Unmodified diffusers pipelines in parallel, against their own call: tiny random networks, guidance included.

Two kinds of equality. To the bit with a network that is called row by row, so that kernels cannot depend on the
batch: then nothing but the algorithm is compared. And within a tolerance as it is used: local movement of 1e-3 a step
adds up to no more than 1e-2 at the end with these networks (measured 1e-4 to 4e-3).
"""

import functools
import inspect
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from refused import refused
from tiny_pipelines import (
    PIPELINES,
    STEPS,
    build,
    dit,
    draw,
    flux,
    flux_guided_in_two_calls,
    noise,
    sd3,
    stable_audio,
    stable_diffusion,
    stochastic,
    wan,
)
from unisono.diffusion import Exact, FixedSteps, NonFiniteError
from unisono.diffusion.pipelines.pipeline import parallelize
from unisono.errors import UnisonoError

diffusers = pytest.importorskip("diffusers")

SHARED = ("txt_ids", "img_ids", "image_rotary_emb")


@pytest.fixture(autouse=True)
def seeded():
    """Random weights repeat, and the global generator is left as it was."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def row_by_row(monkeypatch, pipe):
    """Make the pipeline's network answer one row at a time, the same bits in any batch."""
    kind = type(getattr(pipe, "transformer", None) or pipe.unet)
    whole = kind.forward

    signature = inspect.signature(whole)

    @functools.wraps(whole)
    def forward(self, *args, **kwargs):
        given = signature.bind(self, *args, **kwargs).arguments
        del given["self"]
        n = len(next(iter(given.values())))

        def row(value, i, name):
            if isinstance(value, dict):
                return {k: row(v, i, k) for k, v in value.items()}
            if not isinstance(value, torch.Tensor) or name in SHARED:
                return value
            if name == "timestep":
                return value.reshape(-1).expand(n)[i : i + 1]
            return value[i : i + 1] if value.ndim and len(value) == n else value

        answers = [whole(self, **{k: row(v, i, k) for k, v in given.items()}) for i in range(n)]
        if isinstance(answers[0], tuple):
            return tuple(torch.cat(parts) for parts in zip(*answers, strict=True))
        return type(answers[0])(sample=torch.cat([answer.sample for answer in answers]))

    monkeypatch.setattr(kind, "forward", forward)


@pytest.mark.parametrize("make", PIPELINES, ids=lambda make: make.__name__)
def test_parallel_equals_serial_to_the_bit(monkeypatch, make):
    pipe, kwargs = build(make)
    row_by_row(monkeypatch, pipe)
    serial, ends = draw(pipe, kwargs)
    fast = parallelize(pipe, window=4, accept=Exact())
    parallel, end = draw(fast, kwargs)
    assert torch.equal(parallel, serial)
    assert torch.equal(end, ends)
    assert fast.report.rounds <= fast.report.num_steps


@pytest.mark.parametrize("make", PIPELINES, ids=lambda make: make.__name__)
def test_parallel_equals_serial_within_tolerance_in_fewer_rounds(make):
    pipe, kwargs = build(make)
    serial, ends = draw(pipe, kwargs)
    fast = parallelize(pipe, window=4, tolerance=1e-3)
    parallel, end = draw(fast, kwargs)
    calls = kwargs["num_inference_steps"] * (2 if make in (flux_guided_in_two_calls, wan) else 1)
    report = fast.report
    assert (parallel - serial).norm() <= 1e-2 * serial.norm()
    assert torch.equal(end, ends)
    assert report.num_steps == calls and report.rounds < calls
    assert report.rows >= report.num_steps * report.num_samples
    assert sum(sum(r.accepted) for r in report.history) == report.num_steps * report.num_samples
    assert report.history[-1].done == 1


def test_the_battery_has_image_video_and_audio():
    assert len(PIPELINES) == 10 and {wan, stable_audio, flux} <= set(PIPELINES)


def attributes(pipe):
    return {k: v for k, v in vars(pipe).items() if not isinstance(v, (dict, torch.Tensor))}


def test_the_pipeline_is_unchanged_afterwards():
    pipe, kwargs = build(stable_diffusion)
    before, _ = draw(pipe, kwargs)
    kept, parts = attributes(pipe), {k: dict(vars(v)) for k, v in pipe.components.items() if v is not None}
    parallelize(pipe, window=4)(**kwargs, generator=torch.Generator().manual_seed(1))
    assert attributes(pipe) == kept and pipe._progress_bar_config == {"disable": True}
    for name in ("unet", "vae"):
        assert vars(pipe.components[name]).keys() == parts[name].keys()
    again, _ = draw(pipe, kwargs)
    assert torch.equal(again, before)


def test_the_pipeline_is_unchanged_when_it_raises():
    pipe, kwargs = build(stable_diffusion)
    before, _ = draw(pipe, kwargs)
    kept = attributes(pipe)
    broken, generator = pipe.unet.mid_block.forward, torch.Generator().manual_seed(1)
    start, calls = generator.get_state(), []

    def fail(module, args):
        calls.append(1)
        if len(calls) > 2:
            raise KeyError("broken in the third batch")

    handle = pipe.unet.mid_block.register_forward_pre_hook(fail)
    with pytest.raises(KeyError, match="third"):
        parallelize(pipe, window=4, tolerance=1e-9)(**kwargs, generator=generator)
    handle.remove()
    assert "forward" not in vars(pipe.unet) and "decode" not in vars(pipe.vae) and broken == pipe.unet.mid_block.forward
    assert torch.equal(generator.get_state(), start)
    assert attributes(pipe) == kept
    again, _ = draw(pipe, kwargs)
    assert torch.equal(again, before)


def test_two_threads_give_what_they_give_one_after_the_other():
    pipe, kwargs = build(stable_diffusion)
    serial = {seed: draw(parallelize(pipe, window=4), kwargs, seed)[0] for seed in range(3)}
    fast = parallelize(pipe, window=4)
    with ThreadPoolExecutor(3) as pool:
        shared = list(pool.map(lambda seed: draw(fast, kwargs, seed)[0], range(3)))
        each = list(pool.map(lambda seed: draw(parallelize(pipe, window=4), kwargs, seed)[0], range(3)))
    for seed in range(3):
        assert torch.equal(shared[seed], serial[seed])
        assert torch.equal(each[seed], serial[seed])
    assert "forward" not in vars(pipe.unet) and "decode" not in vars(pipe.vae)
    assert torch.equal(draw(pipe, kwargs)[0], draw(pipe, kwargs)[0])


def test_a_plain_call_from_another_thread_is_refused_in_both():
    pipe, kwargs = build(stable_diffusion)
    before, _ = draw(pipe, kwargs)
    with ThreadPoolExecutor(1) as pool:
        said = []

        def interfere(event):
            said.append(pool.submit(draw, pipe, kwargs).exception())

        with refused(UnisonoError, "state", "pipe"):
            parallelize(pipe, window=4, on_round=interfere)(**kwargs)
    assert isinstance(said[0], UnisonoError) and "runs in parallel in another thread" in str(said[0])
    assert "forward" not in vars(pipe.unet)
    assert torch.equal(draw(pipe, kwargs)[0], before)


def test_a_parallel_call_within_its_own_run_is_refused():
    pipe, kwargs = build(stable_diffusion)
    with refused(UnisonoError, "state", "pipeline"):
        parallelize(pipe, window=4, on_round=lambda _: parallelize(pipe))(**kwargs)
    draw(parallelize(pipe, window=4), kwargs)


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit, MemoryError])
def test_the_pipeline_is_unchanged_when_it_is_interrupted(stop):
    pipe, kwargs = build(stable_diffusion)
    before, _ = draw(pipe, kwargs)
    kept = attributes(pipe)

    def interrupt(_):
        raise stop

    with pytest.raises(stop):
        parallelize(pipe, window=4, on_round=interrupt)(**kwargs)
    assert "forward" not in vars(pipe.unet) and "decode" not in vars(pipe.vae)
    assert attributes(pipe) == kept
    assert torch.equal(draw(pipe, kwargs)[0], before)
    draw(parallelize(pipe, window=4), kwargs)


def test_a_network_that_was_left_patched_answers_as_itself():
    """As where an interrupt comes between the end of a run and the last repair."""
    pipe, kwargs = build(stable_diffusion)
    before, _ = draw(pipe, kwargs)
    patched = []
    fast = parallelize(pipe, window=4, on_round=lambda _: patched.append(pipe.unet.forward))
    fast(**kwargs)
    pipe.unet.forward = patched[0]
    assert torch.equal(draw(pipe, kwargs)[0], before)


def test_without_a_generator_the_global_one_serves_as_it_does_the_pipeline():
    pipe, kwargs = build(stochastic)
    torch.manual_seed(3)
    serial = pipe(**kwargs).images
    end = torch.get_rng_state()
    torch.manual_seed(3)
    parallel = parallelize(pipe, window=4, tolerance=1e-4)(**kwargs).images
    assert torch.equal(torch.get_rng_state(), end)
    assert (parallel - serial).norm() <= 1e-2 * serial.norm()


def test_decoder_runs_once_and_context_lets_go():
    pipe, kwargs = build(stable_diffusion)
    count = []
    handle = pipe.vae.decoder.register_forward_hook(lambda *_: count.append(1))
    with parallelize(pipe, window=4) as fast:
        draw(fast, kwargs)
        assert fast.report.rounds > 1
    handle.remove()
    assert count == [1]
    with refused(UnisonoError, "state", "pipe"):
        fast(**kwargs)


def test_rounds_are_announced_and_a_window_of_one_is_serial():
    pipe, kwargs = build(sd3)
    serial, _ = draw(pipe, kwargs)
    rounds = []
    fast = parallelize(pipe, window=1, on_round=rounds.append)
    parallel, _ = draw(fast, kwargs)
    assert torch.equal(parallel, serial)
    assert [r.done for r in rounds] == [(i + 1) / STEPS for i in range(STEPS)]
    assert fast.report.work == 1


def test_fixed_steps_take_the_rounds_that_they_say():
    pipe, kwargs = build(sd3)
    fast = parallelize(pipe, accept=FixedSteps(4, warmup=2))
    draw(fast, kwargs)
    assert fast.report.rounds == 2 + 1  # 2 serial steps, then 4


def test_windows_and_tolerances_that_cannot_be():
    for code, path, options, name in (
        ("range", "window", {"window": 7}, "6 calls"),
        ("range", "window", {"window": 0}, "at least 1"),
        ("type", "window", {"window": 2.5}, "at least 1"),
        ("type", "rtol", {"tolerance": "x"}, "1e-2"),
        ("type", "networks", {"networks": "transformer"}, "networks=['transformer']"),
        ("range", "rtol", {"tolerance": 0}, "above 0"),
        ("range", "rtol", {"tolerance": -1}, "above 0"),
        ("unknown", "hold", {"hold": "velocity"}, "v, x0"),
        ("unknown", "networks", {"networks": ["transfomer"]}, "'transformer'"),
    ):
        pipe, kwargs = build(sd3)
        (value,) = options.values()
        value = value[0] if isinstance(value, list) else value
        with refused(UnisonoError, code, path, value=value, names=name):
            draw(parallelize(pipe, **options), kwargs)
    pipe, kwargs = build(sd3)
    with refused(UnisonoError, "range", "num_inference_steps", value=1):
        parallelize(pipe)(**{**kwargs, "num_inference_steps": 1})


@pytest.mark.parametrize("name", ["callback", "callback_on_step_end"])
def test_callbacks_are_refused(name):
    pipe, kwargs = build(stable_diffusion)
    with refused(UnisonoError, "unsupported", name, names="on_round"):
        parallelize(pipe)(**kwargs, **{name: lambda *_: None})


def test_a_cache_is_refused():
    pipe, kwargs = build(flux)
    fast = parallelize(pipe)
    pipe.transformer.enable_cache(diffusers.FirstBlockCacheConfig(threshold=0.1))
    with refused(UnisonoError, "state", "network", value="FluxTransformer2DModel"):
        fast(**kwargs)
    pipe.transformer.disable_cache()
    draw(fast, kwargs)


def test_a_stateful_hook_is_refused():
    from diffusers.hooks import HookRegistry, ModelHook

    class Remember(ModelHook):
        _is_stateful = True

    pipe, _ = build(flux)
    HookRegistry.check_if_exists_or_initialize(pipe.transformer.transformer_blocks[0]).register_hook(Remember(), "mine")
    with refused(
        UnisonoError,
        "state",
        "pipe.transformer.transformer_blocks.0.hooks.mine",
        value="Remember",
        names=["transformer_blocks.0", "mine"],
    ):
        parallelize(pipe)


def test_a_replaced_forward_is_refused():
    pipe, _ = build(stable_diffusion)
    block = pipe.unet.down_blocks[0]
    block.forward = functools.partial(type(block).forward, block)
    with refused(UnisonoError, "state", "pipe.unet.down_blocks.0", value="DownBlock2D", names="DeepCache"):
        parallelize(pipe)


def test_dropout_left_on_is_refused():
    pipe, _ = build(stable_diffusion)
    pipe.unet.down_blocks[0].resnets[0].dropout.p = 0.1
    pipe.unet.train()
    with refused(UnisonoError, "state", "down_blocks.0.resnets.0.dropout", value=0.1, names="0.1"):
        parallelize(pipe)


def test_label_dropout_left_on_is_refused():
    """DiT drops classes by itself while it trains, with no dropout layer."""
    pipe, _ = build(dit)
    pipe.transformer.train()
    with refused(
        UnisonoError, "state", "pipe.transformer.transformer_blocks.0.norm1.emb.class_embedder", value=0.1, names="0.1"
    ):
        parallelize(pipe)


def test_a_network_that_draws_noise_is_refused():
    pipe, kwargs = build(stable_diffusion)
    pipe.unet.mid_block.register_forward_hook(lambda m, a, out: out + torch.randn_like(out))
    with refused(UnisonoError, "state", "pipe.unet"):
        parallelize(pipe, window=4)(**kwargs)


def test_a_network_that_mixes_rows_is_refused():
    pipe, kwargs = build(stable_diffusion)
    pipe.unet.mid_block.register_forward_hook(lambda m, a, out: out - out.mean(0, keepdim=True))
    with refused(UnisonoError, "unsupported", "pipe.unet"):
        parallelize(pipe, window=4)(**kwargs)


def test_attention_that_mixes_rows_is_refused_by_name():
    class PAGProcessor:
        def __call__(self, *args, **kwargs):
            raise AssertionError("never called")

    pipe, _ = build(stable_diffusion)
    pipe.unet.set_attn_processor(PAGProcessor())
    with refused(
        UnisonoError,
        "unsupported",
        "pipe.unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.processor",
        value="PAGProcessor",
        names="PAGProcessor",
    ):
        parallelize(pipe)


def test_a_scheduler_that_cannot_be_copied_is_refused():
    pipe, _ = build(stable_diffusion)
    pipe.scheduler.stream = iter([])
    with refused(UnisonoError, "unsupported", "DDIMScheduler.stream", value="list_iterator", names="list_iterator"):
        parallelize(pipe)


def test_what_is_no_pipeline_is_refused():
    with refused(UnisonoError, "type", "pipe", value="Linear"):
        parallelize(torch.nn.Linear(2, 2))


def test_a_row_that_is_not_finite_is_named_and_the_others_finish():
    """Flux with two images; the second one's prompt is NaN."""
    pipe, kwargs = build(lambda: flux(batch=2))
    serial, _ = draw(pipe, kwargs)
    kwargs["prompt_embeds"] = kwargs["prompt_embeds"].clone()
    kwargs["prompt_embeds"][1] = torch.nan
    fast = parallelize(pipe, window=4, tolerance=1e-3)
    with refused(NonFiniteError, "failed", "network", value=[1], names=["sample 1 at step 0", "1 of 2"]) as error:
        draw(fast, kwargs)
    images = error.value.solution.sample[0]
    assert images[1].isnan().all()
    assert (images[0] - serial[0]).norm() <= 1e-2 * serial[0].norm()


def test_conditioners_run_once():
    """The text side of a pipeline is asked as often as in one serial call, however many rounds there are."""
    pipe, kwargs = build(stable_audio)
    counts = []
    handle = pipe.projection_model.start_number_conditioner.register_forward_hook(lambda *_: counts.append(1))
    draw(pipe, kwargs)
    serial = len(counts)
    fast = parallelize(pipe, window=2)
    draw(fast, kwargs)
    handle.remove()
    assert serial > 0 and fast.report.rounds > 2 and len(counts) == 2 * serial


def test_a_controlnet_is_refused():
    pipe, _ = build(stable_diffusion)
    pipe.controlnet = torch.nn.Identity()
    with refused(UnisonoError, "unsupported", "pipe.controlnet", value="StableDiffusionPipeline"):
        parallelize(pipe)


class Bare:
    """The least that is a pipeline: components, a scheduler, and a call."""

    def __init__(self, ask):
        self.scheduler, self.ask = diffusers.DDIMScheduler(clip_sample=False), ask
        self.components = {"unet": torch.nn.Conv2d(2, 2, 3, padding=1), "scheduler": self.scheduler}

    def __call__(self, num_inference_steps=6):
        self.scheduler.set_timesteps(num_inference_steps)
        x = noise(1, 2, 8, 8)
        with torch.no_grad():
            for i, t in enumerate(self.scheduler.timesteps):
                output = self.ask(self.components["unet"], x, i)
                x = self.scheduler.step(output, t, x, return_dict=False)[0]
        return x


def test_whatever_has_a_network_and_a_scheduler_is_a_pipeline():
    pipe = Bare(lambda net, x, i: net(x))
    serial = pipe()
    fast = parallelize(pipe, window=4, tolerance=1e-3)
    assert (fast() - serial).norm() <= 1e-2 * serial.norm()
    assert "forward" not in vars(pipe.components["unet"]) and "_progress_bar_config" not in vars(pipe)


def test_guidance_that_ends_midway_is_refused():
    pipe = Bare(lambda net, x, i: net(torch.cat([x, x]))[:1] if i < 3 else net(x))
    with refused(UnisonoError, "unsupported", "pipe", value=2, names=["2 rows", "1 later"]):
        parallelize(pipe, window=4)()


def test_a_network_that_is_never_called_or_gets_lists_is_named():
    pipe = Bare(lambda net, x, i: x)
    with refused(UnisonoError, "missing", "networks", value=["unet"]):
        parallelize(pipe)()
    pipe = Bare(lambda net, x, i: net(input=[x]))
    with refused(UnisonoError, "unsupported", "unet.input", value="list", names="input"):
        parallelize(pipe)()
