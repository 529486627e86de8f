"""Serve: models behind HTTP, in one process: a bounded queue and one worker thread for each model.

::

    connection ─ gate (key, host) ─ route ─ Served ─ Batcher ─ Worker ─ model
                                      │       places      one thread: batches of like length, turns of streams
                                      └─ native, or a plugin's own: ``Plugin.routes``

``app(models)`` returns the FastAPI application, ``run`` serves it. Routes that a page or a program can use:

=========================================  ========================================================================
``GET /v1/models``                         every model: ``id``, ``model``, ``output``, ``formats``, ``text_field``
``GET /v1/models/{name}/schema``           the request's JSON schema; a field of ``format: file-path``
                                           takes the file, as a ``data:`` URL
``POST /v1/models/{name}``                 a request as JSON; answers the medium. ``?format=wav``, or ``Accept:
                                           audio/wav``; ``?format=json`` answers ``{about, format, type, data}``,
                                           ``?times=srt`` the same with ``times``, what is when as a file's text
``POST /v1/models/{name}/stream``          the same request; server-sent events, ``?view=pieces`` (each piece of a
                                           stream, with its ``offset``) or ``?view=snapshots`` (how it looks meanwhile)
``GET /health``, ``/ready``, ``/metrics``  alive; warmed up and not stuck; Prometheus
=========================================  ========================================================================

Events are ``piece``, ``snapshot``, ``done`` and ``error``. The data of the first two is ``{index, offset, about,
format, type, data}``: ``data`` is the medium in its first format, or that of ``?format``, as base64, and ``about`` is
what `unisono.media.Media.about` says of it. ``done`` has ``{pieces, seconds}``, with ``?times=srt`` also ``times`` of
the whole. Errors, events and answers alike, are ``{"error": {message, type, param, code}}``.
"""

from importlib import import_module
from typing import TYPE_CHECKING

_LAZY = {
    "Client": "unisono.serve.client",
    "Limits": "unisono.serve.limits",
    "Refused": "unisono.serve.errors",
    "Served": "unisono.serve.served",
    "Server": "unisono.serve.served",
    "StreamReply": "unisono.serve.replies",
    "app": "unisono.serve.application",
    "gradio_app": "unisono.serve.ui.blocks",
    "run": "unisono.serve.running",
}

if TYPE_CHECKING:
    from unisono.serve.application import app
    from unisono.serve.client import Client
    from unisono.serve.errors import Refused
    from unisono.serve.limits import Limits
    from unisono.serve.replies import StreamReply
    from unisono.serve.running import run
    from unisono.serve.served import Served, Server
    from unisono.serve.ui.blocks import gradio_app

__all__ = ["Client", "Limits", "Refused", "Served", "Server", "StreamReply", "app", "gradio_app", "run"]


def __getattr__(name: str):
    if name not in _LAZY:
        raise AttributeError(f"module 'unisono.serve' has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)
