"""StyleTTS: a voice whose timbre and manner come from a recording's style (arXiv:2205.15439)."""
