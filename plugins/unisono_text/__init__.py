"""The text plugin: diffusion language models, and lossless decoding. The manifest only; models load when used."""

from unisono import Plugin

plugin = Plugin(
    name="text",
    api="1.0",
    summary="Text by masked diffusion, and autoregressive text in fewer evaluations",
    models={
        "mdlm": "unisono_text.mdlm:MDLM",
        "block": "unisono_text.block:BlockModel",
        "anchored": "unisono_text.anchored:Anchored",
        "seed": "unisono_text.seed:Seed",
        "ar": "unisono_text.ar:Autoregressive",
    },
    data={
        "files": "unisono_text.files:FilesData",
        "chat": "unisono_text.chat:ChatData",
        "toy": "unisono_text.data:ToyData",
    },
    evaluators={
        "mdlm": "unisono_text.evaluate:evaluate",
        "block": "unisono_text.evaluate:evaluate",
        "anchored": "unisono_text.evaluate:evaluate",
        "seed": "unisono_text.evaluate:evaluate",
        "ar": "unisono_text.evaluate:evaluate",
    },
    sweeps={
        "mdlm": "unisono_text.evaluate:probe",
        "block": "unisono_text.evaluate:probe",
        "anchored": "unisono_text.evaluate:probe",
        "seed": "unisono_text.evaluate:probe",
        "ar": "unisono_text.evaluate:probe",
    },
    recipes="unisono_recipes.text",
    extra="text",
)
