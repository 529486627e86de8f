"""Tiny pipelines of diffusers: random networks of every kind of call, with guidance and without."""

import warnings

import pytest
import torch

diffusers = pytest.importorskip("diffusers")

STEPS = 6
BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def unet(**more):
    return diffusers.UNet2DConditionModel(
        sample_size=8, in_channels=4, out_channels=4, block_out_channels=(8, 16), layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=16, norm_num_groups=4, attention_head_dim=8, **more,
    )  # fmt: skip


def vae(**more):
    return diffusers.AutoencoderKL(
        block_out_channels=(4, 8), norm_num_groups=4, latent_channels=4,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2, **more,
    )  # fmt: skip


def stable_diffusion(scheduler=None):
    scheduler = scheduler or diffusers.DDIMScheduler(**BETAS, clip_sample=False, set_alpha_to_one=False, steps_offset=1)
    pipe = diffusers.StableDiffusionPipeline(
        vae=vae(), text_encoder=None, tokenizer=None, unet=unet(), scheduler=scheduler, safety_checker=None,
        feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    return pipe, {
        "prompt_embeds": noise(2, 5, 16, seed=1), "negative_prompt_embeds": noise(2, 5, 16, seed=2),
        "guidance_scale": 3.0, "height": 16, "width": 16, "output_type": "pt",
    }  # fmt: skip


def stochastic():
    """Ancestral noise from the user's generator, drawn in `step`."""
    pipe, kwargs = stable_diffusion(diffusers.EulerAncestralDiscreteScheduler(**BETAS, steps_offset=1))
    return pipe, {**kwargs, "num_inference_steps": 10}


def sdxl():
    network = unet(addition_embed_type="text_time", addition_time_embed_dim=4, projection_class_embeddings_input_dim=40)
    pipe = diffusers.StableDiffusionXLPipeline(
        vae=None, text_encoder=None, text_encoder_2=None, tokenizer=None, tokenizer_2=None, unet=network,
        scheduler=diffusers.DPMSolverMultistepScheduler(**BETAS), add_watermarker=False,
    )  # fmt: skip
    return pipe, {
        "prompt_embeds": noise(1, 5, 16, seed=1), "negative_prompt_embeds": noise(1, 5, 16, seed=2),
        "pooled_prompt_embeds": noise(1, 16, seed=3), "negative_pooled_prompt_embeds": noise(1, 16, seed=4),
        "guidance_scale": 3.0, "height": 64, "width": 64, "output_type": "latent",
        "num_inference_steps": 10,
    }  # fmt: skip


def sd3():
    network = diffusers.SD3Transformer2DModel(
        sample_size=8, patch_size=2, in_channels=4, out_channels=4, num_layers=1, attention_head_dim=8,
        num_attention_heads=2, joint_attention_dim=16, caption_projection_dim=16, pooled_projection_dim=16,
    )  # fmt: skip
    pipe = diffusers.StableDiffusion3Pipeline(
        transformer=network, scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0), vae=None,
        text_encoder=None, tokenizer=None, text_encoder_2=None, tokenizer_2=None, text_encoder_3=None, tokenizer_3=None,
    )  # fmt: skip
    return pipe, {
        "prompt_embeds": noise(1, 5, 16, seed=1), "negative_prompt_embeds": noise(1, 5, 16, seed=2),
        "pooled_prompt_embeds": noise(1, 16, seed=3), "negative_pooled_prompt_embeds": noise(1, 16, seed=4),
        "guidance_scale": 3.0, "height": 64, "width": 64, "output_type": "latent",
    }  # fmt: skip


def flux(batch=1, tokens=5):
    network = diffusers.FluxTransformer2DModel(
        patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=1,
        joint_attention_dim=16, pooled_projection_dim=16, axes_dims_rope=(4, 4, 8), guidance_embeds=True,
    )  # fmt: skip
    pipe = diffusers.FluxPipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0), text_encoder=None, tokenizer=None,
        text_encoder_2=None, tokenizer_2=None, vae=None, transformer=network,
    )  # fmt: skip
    return pipe, {
        "prompt_embeds": noise(batch, tokens, 16, seed=1), "pooled_prompt_embeds": noise(batch, 16, seed=2),
        "height": 64, "width": 64, "output_type": "latent",
    }  # fmt: skip


def flux_tables_as_long_as_the_batch():
    """Two tokens of text and two images: the text's positions [2, 3] are shared all the same."""
    return flux(batch=2, tokens=2)


def flux_guided_in_two_calls():
    """Flux with true guidance calls its network twice in each step."""
    pipe, kwargs = flux()
    more = {"negative_prompt_embeds": noise(1, 5, 16, seed=3), "negative_pooled_prompt_embeds": noise(1, 16, seed=4)}
    return pipe, {**kwargs, **more, "true_cfg_scale": 2.0}


def dit():
    network = diffusers.DiTTransformer2DModel(
        num_attention_heads=2, attention_head_dim=8, in_channels=4, out_channels=8, num_layers=1, sample_size=8,
        patch_size=2, num_embeds_ada_norm=1000,
    )  # fmt: skip
    scheduler = diffusers.DDIMScheduler(clip_sample=False)
    pipe = diffusers.DiTPipeline(transformer=network, vae=vae(), scheduler=scheduler)
    return pipe, {"class_labels": [1, 2], "guidance_scale": 3.0, "output_type": "np", "num_inference_steps": 10}


def wan():
    """Video; guided in two calls."""
    network = diffusers.WanTransformer3DModel(
        patch_size=(1, 2, 2), num_attention_heads=2, attention_head_dim=12, in_channels=4, out_channels=4, text_dim=16,
        freq_dim=16, ffn_dim=16, num_layers=1,
    )  # fmt: skip
    pipe = diffusers.WanPipeline(
        tokenizer=None, text_encoder=None, vae=None, scheduler=diffusers.UniPCMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
        ), transformer=network,
    )  # fmt: skip
    return pipe, {
        "prompt_embeds": noise(1, 5, 16, seed=1), "negative_prompt_embeds": noise(1, 5, 16, seed=2),
        "latents": noise(1, 4, 2, 8, 8), "num_frames": 5, "height": 64, "width": 64, "guidance_scale": 3.0,
        "output_type": "latent",
    }  # fmt: skip


def stable_audio():
    network = diffusers.StableAudioDiTModel(
        sample_size=8, in_channels=4, num_layers=1, attention_head_dim=16, num_attention_heads=2,
        num_key_value_attention_heads=1, out_channels=4, cross_attention_dim=16, time_proj_dim=8,
        global_states_input_dim=32, cross_attention_input_dim=16,
    )  # fmt: skip
    from diffusers.pipelines.stable_audio import StableAudioProjectionModel

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # its weight norm is torch's old one
        coder = diffusers.AutoencoderOobleck(
            encoder_hidden_size=4, downsampling_ratios=[1, 2], decoder_channels=4, decoder_input_channels=4,
            audio_channels=2, channel_multiples=[1, 2], sampling_rate=4,
        )  # fmt: skip
    pipe = diffusers.StableAudioPipeline(
        vae=coder, text_encoder=None, tokenizer=None, transformer=network,
        projection_model=StableAudioProjectionModel(text_encoder_dim=16, conditioning_dim=16, min_value=0, max_value=8),
        scheduler=diffusers.EDMDPMSolverMultistepScheduler(
            sigma_min=0.3, sigma_max=50, sigma_data=1.0, prediction_type="v_prediction"
        ),
    )  # fmt: skip
    ones = torch.ones(1, 5, dtype=torch.long)
    return pipe, {
        "prompt_embeds": noise(1, 5, 16, seed=1), "negative_prompt_embeds": noise(1, 5, 16, seed=2),
        "attention_mask": ones, "negative_attention_mask": ones, "audio_end_in_s": 2.0, "guidance_scale": 3.0,
    }  # fmt: skip


PIPELINES = [
    stable_diffusion, stochastic, sdxl, sd3, flux, flux_tables_as_long_as_the_batch, flux_guided_in_two_calls, dit, wan,
    stable_audio,
]  # fmt: skip


def build(make):
    pipe, kwargs = make()
    pipe.set_progress_bar_config(disable=True)
    for part in pipe.components.values():
        if isinstance(part, torch.nn.Module):
            part.eval()
    return pipe, {"num_inference_steps": STEPS, **kwargs}


def draw(call, kwargs, seed=7):
    """What a pipeline returns as one tensor, and where its generator ends."""
    generator = torch.Generator().manual_seed(seed)
    out = call(**kwargs, generator=generator, return_dict=False)[0]
    return torch.as_tensor(out), generator.get_state()
