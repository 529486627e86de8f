"""Picture facts: what a corpus of pictures with classes and captions would say of itself, made up."""

FACTS = {
    "size": 8,
    "classes": ["circle", "square"],
    "words": ["a", "red", "circle"],
    "sample_captions": ["a red circle"],
    "held_out": [],
    "count": 16,
    "background": [255, 255, 255],
}
