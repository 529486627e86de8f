"""The text plugin: diffusion language models, and lossless decoding. The manifest only; models load when used."""

from unisono import Plugin

plugin = Plugin(
    name="text",
    api="1.2",
    summary="Text by masked diffusion, and autoregressive text in fewer evaluations",
    models={
        "mdlm": "unisono_text.mdlm:MDLM",
        "block": "unisono_text.block:BlockModel",
        "anchored": "unisono_text.anchored:Anchored",
        "seed": "unisono_text.seed:Seed",
        "ar": "unisono_text.ar:Autoregressive",
        "medusa": "unisono_text.lossless.medusa:Medusa",
        "pass": "unisono_text.lossless.look_ahead:PaSS",
        "llada": "unisono_text.large:LLaDA",
        "dream": "unisono_text.large:Dream",
        "fastdllm": "unisono_text.large:FastDLLM",
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
        "medusa": "unisono_text.evaluate:evaluate",
        "pass": "unisono_text.evaluate:evaluate",
        "llada": "unisono_text.evaluate:evaluate",
        "dream": "unisono_text.evaluate:evaluate",
        "fastdllm": "unisono_text.evaluate:evaluate",
    },
    sweeps={
        "mdlm": "unisono_text.evaluate:probe",
        "block": "unisono_text.evaluate:probe",
        "anchored": "unisono_text.evaluate:probe",
        "seed": "unisono_text.evaluate:probe",
        "ar": "unisono_text.evaluate:probe",
        "medusa": "unisono_text.evaluate:probe",
        "pass": "unisono_text.evaluate:probe",
        "llada": "unisono_text.evaluate:probe",
        "dream": "unisono_text.evaluate:probe",
        "fastdllm": "unisono_text.evaluate:probe",
    },
    importers={
        "llada": "unisono_text.published:from_transformers",
        "Dream": "unisono_text.published:from_transformers",
        "Fast_dLLM_Qwen": "unisono_text.published:from_transformers",
    },
    recipes="unisono_recipes.text",
    extra="text",
)
