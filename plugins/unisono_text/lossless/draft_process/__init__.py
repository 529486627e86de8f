"""Drafting ahead: a draft network in a process of its own, for `unisono_text.lossless.asynchronous`.

messages.py   what the two processes tell each other
drafting.py   the draft's own text: what is committed, and what it drew behind that
worker.py     the loop of the process that drafts
line.py       one such process, as the other sees it: messages, death, silence
process.py    processes by model: started when needed, lent, taken back
session.py    one batch's exchange
"""

from unisono_text.lossless.draft_process.process import DraftProcess, process_of

__all__ = ["DraftProcess", "process_of"]
