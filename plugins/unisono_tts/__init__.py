"""Text to speech: seven systems on one corpus, their text front ends and corpora."""

from unisono import Plugin
from unisono_sound.times import FORMATS

plugin = Plugin(
    name="tts",
    api="1.4",
    summary="Text to speech in one pass",
    models={
        "fastspeech": "unisono_tts.fastspeech:FastSpeech",
        "fastpitch": "unisono_tts.fastpitch:FastPitch",
        "styletts": "unisono_tts.styletts.model:StyleTTS",
        "parallel-tacotron": "unisono_tts.parallel_tacotron.model:ParallelTacotron",
        "glow": "unisono_tts.glow.model:GlowTTS",
        "matcha": "unisono_tts.matcha.model:Matcha",
        "zipvoice": "unisono_tts.zipvoice.model:ZipVoice",
    },
    data={
        "speech": "unisono_tts.data:SpeechData",
        "espeak": "unisono_tts.data:EspeakData",
        "stream": "unisono_tts.stream:SpeechStream",
    },
    evaluators={
        "fastspeech": "unisono_tts.evaluate:evaluate",
        "fastpitch": "unisono_tts.evaluate:evaluate",
        "styletts": "unisono_tts.evaluate:evaluate",
        "parallel-tacotron": "unisono_tts.evaluate:evaluate",
        "glow": "unisono_tts.evaluate:evaluate",
        "matcha": "unisono_tts.evaluate:evaluate",
        "zipvoice": "unisono_tts.evaluate:evaluate",
    },
    routes=("unisono_sound.serving.routes:router",),
    times=FORMATS,
    recipes="unisono_recipes.tts",
    extra="tts",
)
