"""Rounds of ours and of diffusers' own ParaDiGMS pipeline, on the same exact networks, at equal error.

Both are swept over the same tolerances, half a decade apart, and the fewest rounds within the error are compared:
neither is judged by a tolerance that suits it badly. The final alpha is 1, which is all that diffusers' batched DDIM
can do, so that both have the same fixed point.
"""

import warnings

import pytest
import torch
from unisono.diffusion import Picard, SchedulerRecurrence, Serial, Tolerance, solve
from unisono.testing.oracles import ImageMixture, Mixture

diffusers = pytest.importorskip("diffusers")

STEPS, WINDOW, SHAPE = 40, 8, (2, 8, 8)
CONFIG = {
    "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": False,
    "set_alpha_to_one": True, "steps_offset": 1,
}  # fmt: skip
TOLERANCES = [10 ** (1 - k / 2) for k in range(11)]


class Stub(diffusers.UNet2DConditionModel):
    """An exact network in the place of Stable Diffusion's, counted."""

    def forward(self, sample, timestep, *args, **kwargs):
        self.calls += 1
        return (self.answer(sample, timestep, torch.zeros_like(timestep, dtype=torch.long)),)


def theirs(network):
    """diffusers' pipeline as a function of the tolerance: (sample, calls)."""
    stub = Stub(
        sample_size=8, in_channels=2, out_channels=2, block_out_channels=(8,), layers_per_block=1, norm_num_groups=4,
        down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",), cross_attention_dim=4,
    ).double()  # fmt: skip
    stub.answer = network
    pipe = diffusers.StableDiffusionParadigmsPipeline(
        vae=None, text_encoder=None, tokenizer=None, unet=stub, scheduler=diffusers.DDIMParallelScheduler(**CONFIG),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipe.set_progress_bar_config(disable=True)

    def run(x, tolerance):
        stub.calls = 0
        sample = pipe(
            prompt_embeds=torch.zeros(1, 1, 4, dtype=torch.double), guidance_scale=1.0, num_inference_steps=STEPS,
            latents=x, parallel=WINDOW, tolerance=tolerance, height=64, width=64, output_type="latent",
            generator=torch.Generator().manual_seed(0),
        ).images  # fmt: skip
        return sample, stub.calls

    return run


@pytest.mark.parametrize("mixture", [ImageMixture(SHAPE), Mixture(SHAPE)], ids=["image-like", "isotropic"])
def test_fewer_rounds_than_paradigms_at_equal_error(mixture):
    scheduler = diffusers.DDIMScheduler(**CONFIG)
    scheduler.set_timesteps(STEPS)
    chain = SchedulerRecurrence(scheduler, mixture.network(scheduler))
    total = {"ours": 0, "theirs": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the pipeline is deprecated, and says so in several places
        run = theirs(mixture.network(scheduler))
        for seed in (2, 3, 4):
            x = torch.randn(1, *SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.double)
            serial = solve(chain, x, Serial()).sample
            best = {"ours": STEPS + 1, "theirs": STEPS + 1}
            for tolerance in TOLERANCES:
                mine = solve(chain, x, Picard(), Tolerance(tolerance), window=WINDOW)
                for who, sample, rounds in (("ours", mine.sample, mine.report.rounds), ("theirs", *run(x, tolerance))):
                    if (sample - serial).norm() <= 5e-3 * serial.norm():
                        best[who] = min(best[who], rounds)
            assert best["theirs"] <= STEPS  # it converges to the same sample
            assert best["ours"] <= best["theirs"]
            total = {who: total[who] + best[who] for who in total}
    assert total["ours"] < total["theirs"]
