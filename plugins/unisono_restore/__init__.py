"""Restoration: damaged sound in, the same sound whole out. The manifest only; models load when they are used."""

from unisono import Plugin, Verb

plugin = Plugin(
    name="restore",
    api="1.4",
    summary="Sound restored in one pass, as long as it was: bandwidth extension, denoising",
    models={
        "ap-bwe": "unisono_restore.ap_bwe.model:APBWE",
        "mp-senet": "unisono_restore.mp_senet.model:MPSENet",
    },
    data={
        "narrow": "unisono_restore.ap_bwe.data:NarrowData",
        "made-narrow": "unisono_restore.ap_bwe.data:MadeNarrowData",
        "noisy": "unisono_restore.mp_senet.data:NoisyData",
        "made-noisy": "unisono_restore.mp_senet.data:MadeNoisyData",
    },
    evaluators={
        "ap-bwe": "unisono_restore.evaluate:evaluate",
        "mp-senet": "unisono_restore.mp_senet.evaluate:evaluate",
    },
    verbs={"restore": Verb("unisono_restore.cli", "restore recordings of any length, or a folder of them, into files")},
    recipes="unisono_recipes.restore",
)
