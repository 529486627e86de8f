"""The image plugin: pictures by diffusion. The manifest only; models load when they are used."""

from unisono import Plugin

plugin = Plugin(
    name="image",
    api="1.3",
    summary="Pictures from classes and captions, by diffusion; samplers that run in parallel; pictures as tokens",
    models={
        "dit": "unisono_image.models.dit:DiT",
        "unet": "unisono_image.models.unet:UNet",
        "vae": "unisono_image.models.vae:VAE",
        "maskgit": "unisono_image.models.maskgit:MaskGIT",
        "critic": "unisono_image.models.critic:Critic",
        "arpg": "unisono_image.models.arpg:ARPG",
        "lpd": "unisono_image.models.lpd:LPD",
        "tokenizer": "unisono_image.models.tokenizer:Tokenizer",
        "tokenizer-line": "unisono_image.models.line_tokenizer:LineTokenizer",
        "classifier": "unisono_image.models.classifier:ImageClassifier",
    },
    data={
        "folder": "unisono_image.corpus.data:FolderData",
        "captions": "unisono_image.corpus.data:CaptionData",
        "shards": "unisono_image.corpus.shards:ShardData",
        "emoji": "unisono_image.corpus.emoji:EmojiData",
        "shapes": "unisono_image.corpus.shapes:ShapeData",
        "stream": "unisono_image.corpus.stream:PictureStream",
    },
    evaluators={
        "dit": "unisono_image.measure.evaluate:evaluate",
        "unet": "unisono_image.measure.evaluate:evaluate",
        "maskgit": "unisono_image.measure.likelihood:evaluate",
        "arpg": "unisono_image.measure.likelihood:evaluate",
        "lpd": "unisono_image.measure.likelihood:evaluate",
        "tokenizer": "unisono_image.measure.tokens:evaluate",
        "tokenizer-line": "unisono_image.measure.tokens:evaluate",
    },
    sweeps={
        "dit": "unisono_image.measure.evaluate:probe",
        "unet": "unisono_image.measure.evaluate:probe",
        "maskgit": "unisono_image.measure.evaluate:probe",
        "arpg": "unisono_image.measure.evaluate:probe",
        "lpd": "unisono_image.measure.evaluate:probe",
    },
    routes=("unisono_image.serving:router",),
    recipes="unisono_recipes.image",
    extra="image",
)
