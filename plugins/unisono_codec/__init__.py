"""The codec plugin: features to waveforms. The manifest only; models load when they are used."""

from unisono import Plugin

plugin = Plugin(
    name="codec",
    api="1.0",
    summary="Neural vocoders: log mel spectrograms to waveforms",
    models={
        "parallel-wavegan": "unisono_codec.parallel_wavegan:ParallelWaveGAN",
        "vocos": "unisono_codec.vocos:Vocos",
        "vocos-gan": "unisono_codec.gan:VocosGAN",
        "rvq": "unisono_codec.rvq:ResidualCodec",
    },
    data={
        "audio": "unisono_codec.data:AudioData",
        "tones": "unisono_codec.data:ToneData",
    },
    evaluators={
        "parallel-wavegan": "unisono_codec.compare:evaluate",
        "vocos": "unisono_codec.compare:evaluate",
        "vocos-gan": "unisono_codec.compare:evaluate",
    },
    recipes="unisono_recipes.codec",
    extra="codec",
)
