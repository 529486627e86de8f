"""Signs: which characters are neither letters nor punctuation but are said, and what they are called.

A *sign* (currency, arithmetic, comparison, percent, section, degree, arrows …) is spoken or refused by name.
A *picture* (emoji, dingbats, box drawing, geometric shapes) has no words: it is skipped, and the front end
says so in ``Symbols.skipped``.
"""

import unicodedata
from functools import lru_cache

__all__ = ["is_picture", "is_sign", "sign_name"]

_FIRST_PICTURE = 0x2300
# signs that Unicode counts as punctuation or modifiers; the ASCII ones among these depend on what is around them
_SIGNS = frozenset("%‰‱&@#§¶†‡^/\\*_′″⁒﹪％＆＠＃／＼＊＿＾")


@lru_cache(maxsize=4096)
def is_sign(character: str) -> bool:
    """Whether a character that is neither letter nor digit is read out ("%", "<", "₽", "→")."""
    if character in _SIGNS:
        return True
    category = unicodedata.category(character)
    return category in ("Sc", "Sm") or (category == "So" and not is_picture(character))


@lru_cache(maxsize=4096)
def is_picture(character: str) -> bool:
    """Whether a character is an emoji, an ornament, or a part of one (skin tone, keycap, tag, variation)."""
    code, category = ord(character), unicodedata.category(character)
    if 0x1F3FB <= code <= 0x1F3FF or 0xFE00 <= code <= 0xFE0F or 0xE0000 <= code <= 0xE01EF or code == 0x20E3:
        return True
    if category != "So" or code < _FIRST_PICTURE:
        return False
    # ㎏ and Ⓐ stand for letters
    plain = unicodedata.normalize("NFKC", character)
    return not (plain.isascii() and any(c.isalnum() for c in plain))


@lru_cache(maxsize=4096)
def sign_name(character: str, language: str) -> str | None:
    """Return a sign's name in words of a language, or None; English takes Unicode's for what has no other.

    "–" stands for the dash of a range ("5–3"), "-" for a minus, "." for a point before letters (".NET").
    """
    language = language.split("-")[0]
    names = _NAMES.get(language, {})
    name = names.get(character) or (names.get("*", names.get("×")) if character == "·" else None)
    if name is not None or language != "en":
        return name
    name = unicodedata.name(character, "").lower().replace("-", " ")
    for word in (" sign", " symbol", "n ary ", "modifier letter "):
        name = name.replace(word, "")
    return name or None


def _table(pairs: str) -> dict[str, str]:
    return {pair.strip()[0]: pair.strip()[1:].strip() for pair in pairs.split(";")}


_NAMES = {
    "ja": _table("- マイナス; − マイナス; – から; . てん; · かける"),
    "ko": _table(". 점; · 곱하기"),
    "bn": _table("৳ টাকা"),
    "uk": _table(". крапка; · помножити на; ^ у степені"),
    "ro": _table(". punct; · ori; ^ la puterea"),
    "en": _table(
        "< less than; > greater than; ≪ much less than; ≫ much greater than; – to; - minus; − minus; . dot; ^ caret; "
        "| vertical bar; _ underscore; * times; / slash; \\ backslash; ~ tilde; = equals; ₽ rubles; ₿ bitcoin; "
        "₺ lira; ₴ hryvnia; ₦ naira; ₪ shekels; ₫ dong; ₱ pesos; ₩ won; ₸ tenge; ₾ lari; ∈ in; ∆ delta; → to; ⇒ implies"
    ),
    "de": _table(
        "< kleiner als; > größer als; – bis; - minus; − minus; . Punkt; ^ hoch; | senkrechter Strich; _ Unterstrich; "
        "* mal; / Schrägstrich; \\ Rückwärtsstrich; ~ ungefähr; ‰ Promille; ₽ Rubel; ₿ Bitcoin; ₺ Lira; ₴ Hrywnja; "
        "₪ Schekel; ₹ Rupien; © Copyright; ® eingetragene Marke; † Kreuz; ∈ Element von; ∆ Delta; ⇒ folgt; ′ Minuten"
    ),
    "fr": _table(
        "< inférieur à; > supérieur à; = égale; ≤ inférieur ou égal à; ≥ supérieur ou égal à; ≠ différent de; "
        "≈ environ; – à; - moins; − moins; . point; ^ puissance; | barre verticale; _ tiret bas; * fois; "
        "/ barre oblique; \\ barre inverse; ~ environ; # dièse; § paragraphe; ‰ pour mille; ₽ roubles; ₿ bitcoins; "
        "₹ roupies; № numéro; √ racine de; ∞ infini; → flèche; ∈ dans"
    ),
    "es": _table(
        "< menor que; > mayor que; ≤ menor o igual que; ≥ mayor o igual que; ≠ distinto de; ≈ aproximadamente; "
        "± más menos; × por; ÷ dividido entre; – a; - menos; − menos; . punto; ^ elevado a; | barra vertical; "
        "_ guion bajo; * por; / barra; \\ barra inversa; ~ aproximadamente; ‰ por mil; ₽ rublos; ₿ bitcoins; ¥ yenes; "
        "¢ centavos; ₹ rupias; № número; √ raíz de; ∞ infinito; → flecha; ∈ en"
    ),
    "it": _table(
        "< minore di; > maggiore di; × per; ÷ diviso; ± più o meno; – a; - meno; − meno; . punto; ^ elevato a; "
        "| barra verticale; _ trattino basso; * per; / barra; ~ circa; ‰ per mille; ₽ rubli; ₿ bitcoin; ¥ yen; "
        "¢ centesimi; ∈ in"
    ),
    "pt": _table(
        "< menor que; > maior que; = igual a; ≤ menor ou igual a; ≥ maior ou igual a; ≠ diferente de; "
        "≈ aproximadamente; ± mais ou menos; × vezes; ÷ dividido por; – a; - menos; − menos; . ponto; ^ elevado a; "
        "| barra vertical; _ sublinhado; * vezes; / barra; ~ aproximadamente; ‰ por mil; € euros; £ libras; ¥ ienes; "
        "₽ rublos; ₿ bitcoins; § parágrafo; ° graus; № número; √ raiz de; ∞ infinito"
    ),
    "nl": _table(
        "< kleiner dan; > groter dan; = is gelijk aan; ≤ kleiner dan of gelijk aan; ≥ groter dan of gelijk aan; "
        "≠ ongelijk aan; ≈ ongeveer; ± plus min; × keer; ÷ gedeeld door; – tot; - min; − min; . punt; ^ tot de macht; "
        "| verticale streep; _ liggend streepje; * keer; / schuine streep; ~ ongeveer; ‰ promille; € euro; £ pond; "
        "¥ yen; ₽ roebel; ₿ bitcoin; § paragraaf; ° graden; № nummer; √ wortel van; ∞ oneindig"
    ),
    "pl": _table(
        "< mniejsze niż; > większe niż; ≤ mniejsze lub równe; ≥ większe lub równe; ≠ różne od; ≈ około; × razy; "
        "– do; - minus; − minus; . kropka; ^ do potęgi; _ podkreślenie; * razy; / ukośnik; ~ około; ‰ promili; € euro; "
        "¥ jenów; ₽ rubli; ₿ bitcoinów; № numer; √ pierwiastek z; ∞ nieskończoność"
    ),
    "ru": _table(
        "< меньше; > больше; ≤ меньше или равно; ≥ больше или равно; ≠ не равно; ≈ примерно; ± плюс минус; "
        "× умножить на; ÷ разделить на; – до; - минус; − минус; . точка; ^ в степени; | вертикальная черта; "
        "_ подчёркивание; / дробь; ~ примерно; ‰ промилле; ° градусов; § параграф; € евро; £ фунтов; ¥ иен; ₽ рублей; "
        "₿ биткойнов; ₴ гривен; ₸ тенге; ₹ рупий; √ корень из; ∞ бесконечность"
    ),
}
