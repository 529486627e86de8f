"""Streams: corpora beyond memory and beyond the disk, read row by row from shards."""

from unisono.data.stream.index import Examined, StreamIndex, index_shards
from unisono.data.stream.listing import find_shards
from unisono.data.stream.module import StreamData, StreamOptions
from unisono.data.stream.parts import Part, Row, Shard, Source
from unisono.data.stream.rows import StreamSet
from unisono.data.stream.source import open_source
from unisono.data.stream.tar import behind

__all__ = [
    "Examined",
    "Part",
    "Row",
    "Shard",
    "Source",
    "StreamData",
    "StreamIndex",
    "StreamOptions",
    "StreamSet",
    "behind",
    "find_shards",
    "index_shards",
    "open_source",
]
