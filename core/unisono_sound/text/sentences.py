"""Sentences to be spoken where there is no corpus: English, made on the spot, the same for the same
seed.

They are put together from short lists, chosen so that all English sounds, questions, exclamations,
lists, numbers and clause pauses occur often.
"""

import random
from collections.abc import Iterator


def sentences(count: int, seed: int = 0) -> list[str]:
    """Return ``count`` different sentences."""
    draw = random.Random(seed)
    found: dict[str, None] = {}
    for sentence in _endless(draw):
        found.setdefault(sentence)
        if len(found) == count:
            break
    return list(found)


def _endless(draw: random.Random) -> Iterator[str]:
    while True:
        template = draw.choice(_TEMPLATES)
        while "{" in template:
            start = template.index("{")
            end = template.index("}", start)
            name = template[start + 1 : end]
            word = _number(draw) if name == "number" else draw.choice(_LISTS[name])
            template = template[:start] + word + template[end + 1 :]
        yield template[0].upper() + template[1:]


def _number(draw: random.Random) -> str:
    return str(draw.choice((draw.randint(2, 20), draw.randint(21, 99), draw.randint(100, 3000))))


_TEMPLATES = (
    "The {adjective} {noun} {past} {place}.",
    "{name} {past} {place}, and the {noun} {past} too.",
    "{name} and {name} {transitive} the {adjective} {noun} {time}.",
    "Have you ever {done} a {adjective} {noun}?",
    "Where did {name} leave the {noun}?",
    "Why is the {noun} so {adjective}, {name}?",
    "{time}, the {noun} {past} {place}.",
    "What a {adjective} {noun}!",
    "Look out, {name}: the {noun} is {adjective}!",
    "There were {number} {plural} {place}, but only {number} were {adjective}.",
    "I would rather {verb} the {noun} than {verb} the {plural}.",
    "If the {noun} is {adjective}, we shall {verb} it {time}.",
    "{name} said that the {plural} were {adjective}; nobody believed it.",
    "We {transitive} {plural}, {plural} and {plural} {place}.",
    "Although it was {adjective}, the {noun} {past} {adverb}.",
    "Please {verb} the {adjective} {noun} {adverb}.",
    "Can you {verb} the {plural} {time}, or is it too {adjective}?",
    "It took {name} {number} minutes to {verb} the {noun}.",
    "Nobody {transitive} the {noun} as {adverb} as {name}.",
    "The {noun}, which {name} {transitive} {time}, is {adjective} now.",
    "No, the {plural} are not {adjective} at all.",
    "{name} {transitive} it {adverb}… and then the {noun} {past} {place}.",
    "Every {noun} has its {noun}, every {noun} its {noun}.",
    "He {adverb} {transitive} the {noun} — and she {transitive} the {plural}.",
    "Yes! The {adjective} {plural} have come back.",
    "Their {noun} was {adjective}, our {noun} was {adjective}.",
    "Should {name} {verb} {number} {plural}?",
    "You and I {transitive} the {noun} {place} {time}.",
)

_LISTS = {
    "name": (
        "Alice|Boris|Charlotte|Dorothy|Edward|Fiona|George|Hugh|Isabel|Joyce|Kathy|Louise|Mateo|"
        "Nora|Oscar|"
        "Paula|Quentin|Ruth|Sheila|Theo|Ursula|Vera|Walter|Yasmin|Zoe|my uncle|their teacher|"
        "her younger brother|"
        "the judge|our neighbour"
    ),
    "adjective": (
        "quiet|cheerful|enormous|thin|rough|azure|ancient|yellow|hungry|curious|smooth|foggy|"
        "purple|useful|"
        "strange|gentle|vivid|heavy|careful|awkward|shallow|royal|noisy|weird|bitter|loyal|"
        "genuine|tall|dark|"
        "young|joyful|worthy|fresh|hollow|clear|poor|fair|thirsty|unusual|golden"
    ),
    "noun": (
        "river|shoe|window|machine|garden|bridge|thumb|voice|kitchen|journey|feather|village|"
        "engine|mirror|"
        "orchard|treasure|clock|giraffe|boat|mountain|cushion|ladder|question|whistle|church|"
        "pigeon|blanket|"
        "thunder|letter|chair|fire|idea|orange|violin|moth|jewel|fountain|bush|world|beard|tour|"
        "earth|hawk|"
        "lion|cathedral|measure|breath|tooth|oyster|house"
    ),
    "plural": (
        "apples|bottles|churches|dreams|eagles|flowers|gloves|horses|islands|judges|kettles|"
        "leaves|maps|nurses|"
        "oceans|pictures|queens|roses|shadows|thieves|umbrellas|valleys|wolves|young foxes|"
        "zebras|boys|paths|"
        "brothers|visions|songs|wheels|clouds|stairs|peaches"
    ),
    "past": (
        "fell|vanished|shone|rested|waited|trembled|appeared|sang|burned|turned|moved|grew|"
        "hovered|slept|"
        "floated|laughed|stood still|broke down|drifted away|caught fire|rushed by|stayed"
    ),
    "transitive": (
        "found|washed|carried|painted|followed|measured|bought|watched|forgot|chose|threw|"
        "joined|heard|"
        "admired|lost|touched|cooked|enjoyed|pushed|described|guarded|shook|sold"
    ),
    "verb": (
        "find|wash|carry|paint|follow|measure|buy|watch|forget|choose|throw|join|hear|admire|"
        "use|touch|cook|"
        "enjoy|push|describe|guard|share|hide|pull|move"
    ),
    "done": (
        "found|washed|painted|followed|measured|bought|watched|chosen|thrown|heard|admired|lost|"
        "touched|"
        "enjoyed|pushed|described|owned|seen"
    ),
    "place": (
        "near the harbour|under the old bridge|beyond the northern hills|at the edge of the forest|"
        "behind the white house|in the museum|on the other side of the road|above the clouds|"
        "by the south gate|"
        "between two tall trees|along the beach|inside the theatre|at the corner of the square|"
        "over the garage|through the thick fog|down the narrow stairs"
    ),
    "time": (
        "yesterday|this morning|on Thursday|last January|before breakfast|at a quarter past five|"
        "in the middle of the night|a year ago|every other week|after the show|once more|"
        "at noon|in early June|"
        "during the storm"
    ),
    "adverb": (
        "slowly|gladly|quietly|usually|with great pleasure|at once|quickly|rather badly|thoroughly|"
        "without a word|carefully|very gently|twice|in a strange way|boldly"
    ),
}
_LISTS = {name: tuple(words.split("|")) for name, words in _LISTS.items()}
