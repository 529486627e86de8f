"""Files of users: text, tables, JSON and folders read one way by every reader, and files written aside.

What is wrong with a file is a ``Fault``: a row of an audit, or an error of the caller's kind with file, line and fix.
Nothing here imports torch.
"""

from unisono.files.aside import folder_written_aside, why_not_written, writing_to, written_aside
from unisono.files.fault import Fault, lone_surrogate, shown
from unisono.files.json_lines import parse_json, read_json, read_json_lines
from unisono.files.lock import LOCK, lock_folder
from unisono.files.regular import MOST_BYTES, checksum, fault_of, is_file, is_folder, open_file, read_bytes, reading
from unisono.files.table import DELIMITERS, Row, Table, read_table
from unisono.files.text import (
    composed,
    decoded,
    lines_of,
    only_returns,
    read_lines,
    read_text,
    stream_lines,
    stream_lines_of,
    wide_encoding,
)
from unisono.files.walk import Found, Names, Walk, is_skipped, natural, walk

__all__ = [
    "DELIMITERS",
    "LOCK",
    "MOST_BYTES",
    "Fault",
    "Found",
    "Names",
    "Row",
    "Table",
    "Walk",
    "checksum",
    "composed",
    "decoded",
    "fault_of",
    "folder_written_aside",
    "is_file",
    "is_folder",
    "is_skipped",
    "lines_of",
    "lock_folder",
    "lone_surrogate",
    "natural",
    "only_returns",
    "open_file",
    "parse_json",
    "read_bytes",
    "read_json",
    "read_json_lines",
    "read_lines",
    "read_table",
    "read_text",
    "reading",
    "shown",
    "stream_lines",
    "stream_lines_of",
    "walk",
    "why_not_written",
    "wide_encoding",
    "writing_to",
    "written_aside",
]
