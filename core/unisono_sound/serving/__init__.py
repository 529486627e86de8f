"""Serving: sound over HTTP: one encoder for each answer, and OpenAI's routes of audio (``unisono serve``)."""
