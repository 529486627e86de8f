"""Media: the sounds and pictures of README, made from the checkpoints that ship; ``python docs/generate_media.py``.

Run it in the folder of the repository. Each file in docs/media is at most 200 KB.
"""

import io
from pathlib import Path
from textwrap import wrap

import matplotlib

matplotlib.use("Agg")

import unisono
from matplotlib import pyplot
from PIL import Image, ImageSequence

MEDIA = Path("docs/media")
MOST_BYTES = 200_000
HEIGHT = 200  # pixels of the strip


def main() -> None:
    """Make all of it, and say how large each file is."""
    MEDIA.mkdir(exist_ok=True)
    sounds()
    wave()
    strip()
    for path in sorted(MEDIA.iterdir()):
        size = path.stat().st_size
        print(f"{path}: {size:,} bytes")
        assert size <= MOST_BYTES, f"{path} has {size} bytes, more than {MOST_BYTES}"


def sounds() -> None:
    """Four sounds, each with its spectrogram."""
    voice = unisono.load("checkpoints/tts-en")
    made = {
        "kathleen": voice("Every word of this sentence was spoken at once."),
        "lj": voice("And here the same sentence can be slow, and low.", speaker="lj", pace=0.85, pitch_shift=-2),
    }
    dialogue = unisono.load("checkpoints/soundstorm-en")
    made["dialogue"] = dialogue(turns=[("kathleen", "Shall we?"), ("lj", "We shall.")])
    digits = unisono.load("checkpoints/gmlm-digits")
    made["digits"] = digits("3 1 4 1 5", speaker="theo", num_steps=6)
    for name, audio in made.items():
        audio.save(MEDIA / f"{name}.mp3")
        figure = audio.plot()
        figure.set_size_inches(9, 3)
        shrink(pixels(figure, 80), MEDIA / f"{name}.png")


def wave() -> None:
    """A motion, as a GIF and as poses."""
    mover = unisono.load("checkpoints/motion-bandai")
    motion = mover("an elderly person waves with the left hand", seconds=3)
    path = MEDIA / "wave.gif"
    motion.save(path)
    with Image.open(path) as film:
        milliseconds = film.info["duration"]
        frames = [frame.convert("RGB") for frame in ImageSequence.Iterator(film)][::2]
    small = [
        frame.resize((frame.width // 2, frame.height // 2), Image.Resampling.LANCZOS).quantize(
            24, Image.Quantize.MAXCOVERAGE
        )
        for frame in frames
    ]
    small[0].save(path, save_all=True, append_images=small[1:], duration=2 * milliseconds, loop=0, optimize=True)
    shrink(pixels(motion.plot(), 70), MEDIA / "wave.png")


def strip() -> None:
    """What there is, side by side: speech, motion, pictures, and a text on the way."""
    canvas = unisono.load("checkpoints/text-block-shakespeare")
    texts = [str(text) for text in canvas.snapshots("ROMEO:", length=120)]
    figure = pyplot.figure(figsize=(4.4, 2))
    lines = [part for line in texts[len(texts) // 2].split("\n") for part in wrap(line, 34) or [""]]
    figure.text(0.03, 0.94, "\n".join(lines), family="DejaVu Sans Mono", size=11, va="top")
    with Image.open("checkpoints/emoji/sheet.png") as sheet:
        pictures = sheet.convert("RGB")
    panels = [Image.open(MEDIA / "kathleen.png"), Image.open(MEDIA / "wave.png"), pictures, pixels(figure, 100)]
    panels = [fitted(panel.convert("RGB")) for panel in panels]
    gap = 12
    whole = Image.new("RGB", (sum(panel.width + gap for panel in panels) - gap, HEIGHT), "white")
    left = 0
    for panel in panels:
        whole.paste(panel, (left, 0))
        left += panel.width + gap
    shrink(whole, MEDIA / "strip.png")


def fitted(panel: Image.Image) -> Image.Image:
    """Return a panel at the strip's height."""
    return panel.resize((round(panel.width * HEIGHT / panel.height), HEIGHT), Image.Resampling.LANCZOS)


def pixels(figure: "matplotlib.figure.Figure", dpi: int) -> Image.Image:
    """Return a figure as a picture."""
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=dpi)
    pyplot.close(figure)
    return Image.open(buffer)


def shrink(picture: Image.Image, path: Path) -> None:
    """Write a PNG of 128 colours."""
    picture.convert("RGB").quantize(128).save(path, optimize=True)


if __name__ == "__main__":
    main()
