"""Gradio page: an optional one (extra ``ui``), for Spaces and notebooks; the server's own page is `unisono.serve.page`.

``controls`` says which control each field of a request has, and needs no package; ``blocks`` builds the page.
"""
