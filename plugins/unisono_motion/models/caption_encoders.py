"""Caption encoders: what a request says a motion shows; words, letters and encoders are `unisono.nn.captions`.

MMM (Pinyoanuntapong et al., arXiv:2312.03596, §3.3) takes words and sentence from CLIP, frozen; the small encoder is
the difference, for those who train on captions of a few dozen words.
"""

from unisono.data import words_of
from unisono.errors import RequestError
from unisono.nn.captions import MAX_LETTERS, MAX_WORDS


def read_caption(caption: str) -> list[str]:
    """Return the words of a request's caption, or raise ``RequestError`` where there are none or too many."""
    words = words_of(caption)
    if not words:
        raise RequestError(
            f"the text {caption.strip()[:40]!r} has no word: say what the motion shows",
            code="empty",
            path="text",
            value=caption,
        )
    if len(words) > MAX_WORDS:
        raise RequestError(
            f"the text has {len(words)} words, a caption at most {MAX_WORDS}: "
            "shorten it, or give what happens one after the other as texts",
            code="limit",
            path="text",
            value=len(words),
        )
    longest = max(words, key=len)
    if len(longest) > MAX_LETTERS:
        raise RequestError(
            f"the word {longest[:20] + '…'!r} has {len(longest)} letters, at most {MAX_LETTERS}: write words",
            code="limit",
            path="text",
            value=longest,
        )
    return words
