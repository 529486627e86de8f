"""Inverse problems: pictures restored by any diffusion prior. The manifest only; models load when they are used."""

from unisono import Plugin

plugin = Plugin(
    name="inverse",
    api="1.4",
    summary="Pictures restored by any diffusion model, without training: missing pixels, sizes, colours, blur",
    models={
        "ddnm": "unisono_inverse.ddnm.model:Restorer",
        "blind-dps": "unisono_inverse.blind.model:BlindRestorer",
        "kernels": "unisono_inverse.blind.prior:KernelPrior",
    },
    evaluators={
        "ddnm": "unisono_inverse.evaluate:evaluate",
    },
    data={
        "trial": "unisono_inverse.data:TrialData",
        "made-kernels": "unisono_inverse.blind.kernels:KernelData",
    },
    importers={kind: "unisono_inverse.priors:read_pipeline" for kind in ("DDPMPipeline", "DDIMPipeline")},
    recipes="unisono_recipes.inverse",
    extra="inverse",
)
