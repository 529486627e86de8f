"""Features: vectors that images are compared by; a named network's, a small classifier's or Inception's.

A Fréchet distance means nothing without the network that its features come from: every extractor has a ``name``, and
reports carry it. Published FIDs are taken with Inception (the weights of Szegedy et al. as torch-fidelity has them);
those weights are fetched by that package, so the classifier that an export holds is what is used unless asked
otherwise.

Shapes: n images, d features, k classes.
"""

from collections.abc import Sequence
from typing import Any, Literal, Protocol

import numpy as np
import torch
from jaxtyping import Float, UInt8
from unisono.errors import DataError, MissingExtra, RequestError

from unisono_image.models.classifier import ImageClassifier

Extractor = Literal["classifier", "inception"]
AT_ONCE = 50


class Features(Protocol):
    """Turns images, uint8 [3, h, w] each, into vectors; ``name`` says by what."""

    name: str

    def __call__(self, images: Sequence[UInt8[np.ndarray, "3 h w"]]) -> Float[np.ndarray, "n d"]: ...


class ClassifierFeatures:
    """The features of an ``image/classifier``; ``classes`` are what it tells apart."""

    def __init__(self, classifier: ImageClassifier):
        self.classifier = classifier
        self.classes = list(classifier.classes)
        self.name = (
            f"unisono's small classifier of {len(self.classes)} classes ({classifier.widths[-1]} features, "
            f"{classifier.size} × {classifier.size})"
        )

    def __call__(self, images: Sequence[UInt8[np.ndarray, "3 h w"]]) -> Float[np.ndarray, "n d"]:
        return self.classifier.judge(images)[0]

    def chances(self, images: Sequence[UInt8[np.ndarray, "3 h w"]]) -> Float[np.ndarray, "n k"]:
        """Return how likely each class is."""
        return self.classifier.judge(images)[1]


class InceptionFeatures:
    """The 2,048 pooled features of Inception v3, as published FIDs have them (Heusel et al., arXiv:1706.08500).

    Needs the package ``torch-fidelity``, which fetches the weights once. Raises ``MissingExtra`` without the package
    and ``DataError`` where the weights cannot be had.
    """

    name = "Inception v3 (torch-fidelity, 2048 features)"

    def __init__(self):
        try:
            from torch_fidelity.feature_extractor_inceptionv3 import (  # pyright: ignore[reportMissingImports]
                FeatureExtractorInceptionV3,
            )
        except ImportError:
            raise MissingExtra("torch-fidelity", "inception") from None
        try:
            self.network: Any = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"]).eval()
        except Exception as error:  # whatever a download, or what came of it, raises
            raise DataError(
                f"Inception's weights cannot be loaded ({type(error).__name__}: {error}): put them where "
                "torch-fidelity looks for them, or compare by the classifier",
                code="failed",
                path="extractor",
                value="inception",
            ) from None

    @torch.no_grad()
    def __call__(self, images: Sequence[UInt8[np.ndarray, "3 h w"]]) -> Float[np.ndarray, "n d"]:
        parts = [np.stack(images[first : first + AT_ONCE]) for first in range(0, len(images), AT_ONCE)]
        return np.concatenate([self.network(torch.from_numpy(part))[0].numpy() for part in parts])


def features_of(model: Any, extractor: Extractor = "classifier") -> ClassifierFeatures | InceptionFeatures:
    """Return what a model's images are compared by; raises ``RequestError`` where its export holds no classifier."""
    if extractor == "inception":
        return InceptionFeatures()
    classifier = model.components.get("classifier")
    if classifier is None:
        raise RequestError(
            f"this {type(model).__name__} has no classifier, whose features images are compared by: give one with "
            "--component classifier=FOLDER or components={'classifier': FOLDER} (unisono train "
            "image/classifier-cifar10 makes one), or compare by Inception: evaluate(…, extractor='inception')",
            code="missing",
            path="components.classifier",
        )
    return ClassifierFeatures(classifier)
