"""Manifest: names and import strings; what they name is imported when it is used."""

from unisono import Plugin

plugin = Plugin(
    name="sketch",
    api="1.4",
    summary="A text as a line: each letter lasts as long, and lies as high, as was learnt",
    models={"sketch": "unisono_sketch.model:Sketch"},
    data={"letters": "unisono_sketch.data:Letters"},
    evaluators={"sketch": "unisono_sketch.evaluate:evaluate"},
    sweeps={"sketch": "unisono_sketch.evaluate:probe"},
    recipes="unisono_sketch.recipes",
)
