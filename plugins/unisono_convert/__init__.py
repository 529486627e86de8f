"""Voice conversion: the same words at the same times in another voice. The manifest only; models load when used."""

from unisono import Plugin

plugin = Plugin(
    name="convert",
    api="1.4",
    summary="Voice conversion in one pass: Pureformer-VC, StarGANv2-VC",
    models={
        "pureformer": "unisono_convert.pureformer.model:Pureformer",
        "starganv2": "unisono_convert.starganv2.model:StarGANv2",
        "tutor": "unisono_convert.tutor.model:Tutor",
    },
    data={
        "speakers": "unisono_convert.corpus.data:SpeakerData",
        "espeak": "unisono_convert.corpus.made:EspeakSpeakers",
    },
    evaluators={
        "pureformer": "unisono_convert.measure.evaluate:evaluate",
        "starganv2": "unisono_convert.measure.evaluate:evaluate",
    },
    recipes="unisono_recipes.convert",
    extra="convert",
)
