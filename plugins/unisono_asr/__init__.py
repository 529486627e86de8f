"""Speech recognition in parallel: CTC and Paraformer on Branchformer. The manifest only; models load when used."""

from unisono import Plugin, Verb
from unisono_sound.times import FORMATS

plugin = Plugin(
    name="asr",
    api="1.4",
    summary="Speech to text in one pass: CTC and Paraformer on Branchformer encoders",
    models={
        "ctc": "unisono_asr.models.ctc:CTC",
        "paraformer": "unisono_asr.models.paraformer:Paraformer",
    },
    data={
        "speech": "unisono_asr.data:RecognitionData",
        "espeak": "unisono_asr.data:EspeakRecognition",
    },
    evaluators={
        "ctc": "unisono_asr.evaluate:evaluate",
        "paraformer": "unisono_asr.evaluate:evaluate",
    },
    verbs={"align": Verb("unisono_asr.align_cli", "say when each word of a known text is said in a recording")},
    times=FORMATS,
    recipes="unisono_recipes.asr",
    extra="asr",
)
