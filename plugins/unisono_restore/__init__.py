"""Restoration: damaged sound in, the same sound whole out. The manifest only; models load when they are used."""

from unisono import Plugin, Verb

plugin = Plugin(
    name="restore",
    api="1.4",
    summary="Sound restored, as long as it was: bandwidth extension, noise, echoes, codecs",
    models={
        "ap-bwe": "unisono_restore.ap_bwe.model:APBWE",
        "mp-senet": "unisono_restore.mp_senet.model:MPSENet",
        "miipher": "unisono_restore.miipher.model:Miipher",
    },
    data={
        "narrow": "unisono_restore.ap_bwe.data:NarrowData",
        "made-narrow": "unisono_restore.ap_bwe.data:MadeNarrowData",
        "noisy": "unisono_restore.mp_senet.data:NoisyData",
        "made-noisy": "unisono_restore.mp_senet.data:MadeNoisyData",
        "damaged": "unisono_restore.miipher.data:DamagedData",
        "made-damaged": "unisono_restore.miipher.data:MadeDamagedData",
    },
    evaluators={
        "ap-bwe": "unisono_restore.evaluate:evaluate",
        "mp-senet": "unisono_restore.mp_senet.evaluate:evaluate",
        "miipher": "unisono_restore.evaluate:evaluate",
    },
    verbs={"restore": Verb("unisono_restore.cli", "restore recordings of any length, or a folder of them, into files")},
    importers={
        kind: "unisono_restore.miipher.imported:read_encoder"
        for kind in ("hubert", "wav2vec2", "wavlm", "wav2vec2-bert")
    },
    recipes="unisono_recipes.restore",
)
