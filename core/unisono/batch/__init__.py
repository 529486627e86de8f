"""Batch: a corpus of requests becomes shards and a manifest, in as many processes or machines as there are.

::

    rows.py, tables.py    what a file asks for, row by row
    stored.py             files as rows: of a folder, of a pattern, in tar shards
    requests.py           a row's request, its seed, and the hash that is its key
    making.py             a block of requests becomes outputs, the same whoever makes it
    shards.py             outputs become a tar or parquet file, or a folder
    folder.py             settings, lock, finished shards, the manifest
    index.py              which rows there are, on disk
    local.py, on_ray.py   engines: this process, several, or those of Ray
    run.py                all of it
    numbered.py           one file per line, numbered: ``unisono generate --input``
"""

from unisono.batch.requests import model_fingerprint, request_fingerprint
from unisono.batch.rows import Row, read_rows
from unisono.batch.run import MOST_LISTED, Options, Outcome, run_batch

__all__ = [
    "MOST_LISTED",
    "Options",
    "Outcome",
    "Row",
    "model_fingerprint",
    "read_rows",
    "request_fingerprint",
    "run_batch",
]
