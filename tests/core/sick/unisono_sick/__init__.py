"""A plugin whose every model breaks one promise. The conformance kit must find each."""

from unisono import Plugin

NAMES = (
    *("Healthy", "Deaf", "Forgetful", "Lopsided", "Leaky", "Moody", "Fidgety", "Homesick", "Talkative"),
    *("Lenient", "Silent", "Vague", "Infinite", "Mute", "Untrained"),
)

plugin = Plugin(
    name="sick",
    api="1.0",
    summary="Breaks promises",
    models={name.lower(): f"unisono_sick.models:{name}" for name in NAMES},
    data={"letters": "unisono_hum.data:Letters"},
    recipes="unisono_sick.recipes",
)
