"""Phrases: where a stretch without punctuation may be cut, by the words on both sides.

The lists are English with the commonest words of German, French, Spanish and Italian; elsewhere the length of the
word before the cut decides, since short words are mostly bound to the next.
"""

__all__ = ["looseness"]


def looseness(word: str, following: str) -> int:
    """How well a phrase may be cut between two words, in [0, 3].

    3 before a conjunction, 2 before a preposition, 1 after a word of four letters or more, 0 after an article, a
    preposition, a conjunction or an auxiliary.
    """
    word, following = word.lower(), following.lower()
    if word in _BINDING or following in _BOUND:
        return 0
    if following in _CONJUNCTIONS:
        return 3
    return 2 if following in _PREPOSITIONS else int(len(word) > 3)


_CONJUNCTIONS = frozenset(
    str.split(
        "and but or nor so yet because although though unless until while when whenever where which who whom whose "
        "that if than since after before then und aber oder weil dass wenn als et mais ou parce que quand y pero o "
        "porque cuando e ma perché"
    )
)
_PREPOSITIONS = frozenset(
    str.split(
        "in on at to for from with without by into onto over under about through between among against during towards "
        "like across behind beside near of as mit von zu nach bei aus für avec pour dans sur con para por desde"
    )
)
_BINDING = (
    _PREPOSITIONS
    | _CONJUNCTIONS
    | frozenset(
        str.split(
            "a an the my your his her its our their this these those no every each some any very too not is are was "
            "were be been am has have had do does did will would shall should can could may might must i you he she "
            "it we they der die das den dem des ein eine einen le la les un une des du el los las una il lo gli i"
        )
    )
)
_BOUND = frozenset(str.split("me him them us n't"))
