"""The codec plugin: features to waveforms. The manifest only; models load when they are used."""

from unisono import Plugin, Verb

plugin = Plugin(
    name="codec",
    api="1.1",
    summary="Neural vocoders: log mel spectrograms to waveforms",
    models={
        "parallel-wavegan": "unisono_codec.parallel_wavegan:ParallelWaveGAN",
        "vocos": "unisono_codec.vocos:Vocos",
        "vocos-gan": "unisono_codec.gan:VocosGAN",
        "rvq": "unisono_codec.rvq:ResidualCodec",
        "grvq": "unisono_codec.rvq:GroupedCodec",
        "fsq": "unisono_codec.rvq:ScalarCodec",
        "encodec": "unisono_codec.imported:EncodecCodec",
        "dac": "unisono_codec.imported:DacCodec",
        "soundstorm": "unisono_codec.soundstorm:SoundStorm",
        "listener": "unisono_codec.listener:Listener",
        "gmlm": "unisono_codec.gmlm:GroupMaskedLM",
    },
    data={
        "audio": "unisono_codec.data:AudioData",
        "tones": "unisono_codec.data:ToneData",
        "voice": "unisono_codec.voice:VoiceData",
        "spoken": "unisono_codec.voice:SpokenData",
        "words": "unisono_codec.digits:WordData",
        "made-words": "unisono_codec.digits:MadeWordData",
        "prompted": "unisono_codec.digits:PromptedData",
        "made-prompted": "unisono_codec.digits:MadePromptedData",
    },
    evaluators={
        "parallel-wavegan": "unisono_codec.compare:evaluate",
        "vocos": "unisono_codec.compare:evaluate",
        "vocos-gan": "unisono_codec.compare:evaluate",
        "rvq": "unisono_codec.evaluate:evaluate",
        "grvq": "unisono_codec.evaluate:evaluate",
        "fsq": "unisono_codec.evaluate:evaluate",
        "gmlm": "unisono_codec.prompted_evaluate:evaluate",
        "soundstorm": "unisono_codec.voice_report:evaluate",
    },
    sweeps={
        "rvq": "unisono_codec.evaluate:probe",
        "grvq": "unisono_codec.evaluate:probe",
        "fsq": "unisono_codec.evaluate:probe",
        "gmlm": "unisono_codec.prompted_evaluate:probe",
        "soundstorm": "unisono_codec.voice_report:probe",
    },
    verbs={"codec": Verb("unisono_codec.cli", "encode sound into small files of tokens, and decode them")},
    recipes="unisono_recipes.codec",
    extra="codec",
)
