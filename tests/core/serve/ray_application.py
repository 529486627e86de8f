"""Application: the models of UNISONO_MODELS behind Ray Serve, loaded in each replica, on any number of machines."""

import os
from pathlib import Path

import unisono
from ray import serve


def build():
    """Load the models; Ray calls this once in each replica."""
    from unisono.serve import app

    names = os.environ["UNISONO_MODELS"].split(",")
    return app({Path(name).name: unisono.load(name) for name in names}, hosts=["*"])


models = serve.deployment(serve.ingress(build)(), name="models", max_ongoing_requests=64)
application = models.options(num_replicas=int(os.environ.get("UNISONO_REPLICAS", "2"))).bind()
