"""Inverse problems of pictures, solved by any diffusion prior. The manifest only; models load when they are used."""

from unisono import Plugin

plugin = Plugin(
    name="inverse",
    api="1.4",
    summary="Pictures restored by any diffusion model, without training: missing pixels, sizes, colours, blur",
    models={
        "ddnm": "unisono_inverse.ddnm.model:Restorer",
    },
    data={
        "trial": "unisono_inverse.data:TrialData",
    },
    recipes="unisono_recipes.inverse",
    extra="inverse",
)
