"""The text plugin: diffusion language models, and lossless decoding. The manifest only; models load when used."""

from unisono import Plugin

plugin = Plugin(
    name="text",
    api="1.0",
    summary="Text by masked diffusion, and autoregressive text in fewer evaluations",
    models={},
    data={
        "files": "unisono_text.files:FilesData",
        "chat": "unisono_text.chat:ChatData",
        "toy": "unisono_text.data:ToyData",
    },
    evaluators={},
    sweeps={},
    recipes="unisono_recipes.text",
    extra="text",
)
