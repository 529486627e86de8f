"""VoiceNetwork: the parts of StyleTTS that are trained as the generator of its game (arXiv:2205.15439)."""

from torch import nn
from unisono.duration import Aligner

from unisono_tts.styletts.decoder import Decoder
from unisono_tts.styletts.pictures import StyleEncoder
from unisono_tts.styletts.prosody import ProsodyPredictor
from unisono_tts.styletts.sizes import StyleSizes
from unisono_tts.styletts.text import TextEncoder


class VoiceNetwork(nn.Module):
    """Text encoder, style encoder, decoder and prosody; and an aligner, where durations are not given."""

    def __init__(self, num_symbols: int, n_mels: int, sizes: StyleSizes, aligned: bool):
        super().__init__()
        self.text = TextEncoder(num_symbols, sizes)
        self.style = StyleEncoder(sizes.picture_dim, sizes.dim, n_mels, sizes.style_dim)
        self.decoder = Decoder(n_mels, sizes)
        self.prosody = ProsodyPredictor(sizes)
        self.aligner = Aligner(sizes.dim, n_mels) if aligned else None
