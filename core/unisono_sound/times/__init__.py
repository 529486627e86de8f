"""Times: what is said when, as files of subtitles, of Praat's tiers and of JSON."""

FORMATS = {
    ".srt": "unisono_sound.times.subtitles:SRT",
    ".vtt": "unisono_sound.times.subtitles:VTT",
    ".TextGrid": "unisono_sound.times.textgrid:TEXTGRID",
    ".json": "unisono_sound.times.plain:JSON",
}
"""What a plugin whose models speak names as its ``times``."""
