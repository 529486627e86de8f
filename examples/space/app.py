"""A Space of Hugging Face (SDK gradio): one model with its page. Beside it lies a requirements.txt: unisono[ui,tts]."""

import os

import unisono
from unisono.serve import gradio_app

name = os.environ.get("UNISONO_MODEL", "checkpoints/tts-en")  # an export: a folder, or a hub id
demo = gradio_app({name.rstrip("/").rpartition("/")[2]: unisono.load(name)})

if __name__ == "__main__":
    demo.launch()
