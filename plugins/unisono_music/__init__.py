"""The music plugin: scores in several voices. The manifest only; models load when they are used."""

from unisono import Plugin

plugin = Plugin(
    name="music",
    api="1.0",
    summary="Scores: masked models of voices over time, tracks written in parallel, and their measures",
    models={
        "grid": "unisono_music.models.grid:GridModel",
        "band": "unisono_music.models.band.band:Band",
        "vssm": "unisono_music.models.scan.vssm:VSSM",
        "ssm": "unisono_music.models.scan.ssm:SSM",
    },
    data={
        "chorales": "unisono_music.corpus.chorales:ChoraleData",
        "midi": "unisono_music.corpus.midi:MidiData",
        "tunes": "unisono_music.corpus.tunes:TuneData",
    },
    evaluators={
        "grid": "unisono_music.measure.evaluate:evaluate",
        "band": "unisono_music.models.band.evaluate:evaluate",
        "vssm": "unisono_music.models.scan.evaluate:evaluate",
        "ssm": "unisono_music.models.scan.evaluate:evaluate",
    },
    sweeps={
        "grid": "unisono_music.measure.evaluate:probe",
        "vssm": "unisono_music.measure.evaluate:probe",
        "ssm": "unisono_music.measure.evaluate:probe",
    },
    recipes="unisono_recipes.music",
    extra="music",
)
