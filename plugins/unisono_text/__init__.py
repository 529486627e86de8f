"""The text plugin: diffusion language models, and lossless decoding. The manifest only; models load when used."""

from unisono import Plugin

plugin = Plugin(
    name="text",
    api="1.3",
    summary="Text by masked diffusion, and autoregressive text in fewer evaluations",
    models={
        "mdlm": "unisono_text.models.mdlm:MDLM",
        "block": "unisono_text.models.block:BlockModel",
        "anchored": "unisono_text.models.anchored:Anchored",
        "seed": "unisono_text.models.seed:Seed",
        "ar": "unisono_text.models.ar:Autoregressive",
        "medusa": "unisono_text.lossless.medusa:Medusa",
        "pass": "unisono_text.lossless.look_ahead:PaSS",
        "llada": "unisono_text.models.large:LLaDA",
        "dream": "unisono_text.models.large:Dream",
        "fastdllm": "unisono_text.models.large:FastDLLM",
    },
    data={
        "files": "unisono_text.corpus.files:FilesData",
        "chat": "unisono_text.corpus.chat:ChatData",
        "stream": "unisono_text.corpus.stream:TextStream",
        "toy": "unisono_text.corpus.data:ToyData",
    },
    evaluators={
        "mdlm": "unisono_text.measure.evaluate:evaluate",
        "block": "unisono_text.measure.evaluate:evaluate",
        "anchored": "unisono_text.measure.evaluate:evaluate",
        "seed": "unisono_text.measure.evaluate:evaluate",
        "ar": "unisono_text.measure.evaluate:evaluate",
        "medusa": "unisono_text.measure.evaluate:evaluate",
        "pass": "unisono_text.measure.evaluate:evaluate",
        "llada": "unisono_text.measure.evaluate:evaluate",
        "dream": "unisono_text.measure.evaluate:evaluate",
        "fastdllm": "unisono_text.measure.evaluate:evaluate",
    },
    sweeps={
        "mdlm": "unisono_text.measure.evaluate:probe",
        "block": "unisono_text.measure.evaluate:probe",
        "anchored": "unisono_text.measure.evaluate:probe",
        "seed": "unisono_text.measure.evaluate:probe",
        "ar": "unisono_text.measure.evaluate:probe",
        "medusa": "unisono_text.measure.evaluate:probe",
        "pass": "unisono_text.measure.evaluate:probe",
        "llada": "unisono_text.measure.evaluate:probe",
        "dream": "unisono_text.measure.evaluate:probe",
        "fastdllm": "unisono_text.measure.evaluate:probe",
    },
    importers={
        "llada": "unisono_text.models.published:from_transformers",
        "Dream": "unisono_text.models.published:from_transformers",
        "Fast_dLLM_Qwen": "unisono_text.models.published:from_transformers",
    },
    routes=("unisono_text.serving:router",),
    recipes="unisono_recipes.text",
    extra="text",
)
