"""A plugin that hums. The manifest only: what it names is imported when it is used."""

from unisono import Plugin

plugin = Plugin(
    name="hum",
    api="1.0",
    summary="Hums a text, a tone for each letter",
    models={"hum": "unisono_hum.model:Hum"},
    data={"letters": "unisono_hum.data:Letters"},
    recipes="unisono_hum.recipes",
)
