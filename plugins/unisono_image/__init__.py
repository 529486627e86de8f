"""The image plugin: pictures by diffusion. The manifest only; models load when they are used."""

from unisono import Plugin

plugin = Plugin(
    name="image",
    api="1.0",
    summary="Pictures from classes and captions, by diffusion; samplers that run in parallel",
    models={
        "dit": "unisono_image.dit:DiT",
        "unet": "unisono_image.unet:UNet",
        "vae": "unisono_image.vae:VAE",
        "classifier": "unisono_image.classifier:ImageClassifier",
    },
    data={
        "folder": "unisono_image.data:FolderData",
        "captions": "unisono_image.data:CaptionData",
        "shards": "unisono_image.shards:ShardData",
        "emoji": "unisono_image.emoji:EmojiData",
        "shapes": "unisono_image.shapes:ShapeData",
    },
    evaluators={
        "dit": "unisono_image.evaluate:evaluate",
        "unet": "unisono_image.evaluate:evaluate",
    },
    sweeps={
        "dit": "unisono_image.evaluate:probe",
        "unet": "unisono_image.evaluate:probe",
    },
    recipes="unisono_recipes.image",
    extra="image",
)
