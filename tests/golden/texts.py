"""Hostile texts, and small WordPiece vocabularies to read them with. Used by make.py."""

import string

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = ["the", "cat", "sat", "on", "mat", "un", "##happ", "##y", "##s", "##ing", "cafe", "naive", "istanbul", "strasse", "resume"]
#: Letters beyond ASCII that may stand in a vocabulary; none of them changes in lower case.
LETTERS = (
    "ßæøłđıœþ" "αβγδιουφσς" "абвгежиіїёкл" "אבגדוילםמעש" "ابتحرسعكلمي١٢" "กขคำา" "कखगनमसते" "ㄱ가한국" "한" "中文字漢日本語の" "カタ" "ﾊ" "ｗ" "ﬁ" "ª²½" "ᴬ" "𝐚"
    "😀👍👨👩👧🇫🇷🏽" "…—“”‘’«»¿¡" "€£¥" "™©°" "、。「」！？" "،؟"
)
ACCENTED = "éèêëàâäáãåçñöôóòõüûúùíìîïýÿžščřěůőűİĐŁØÆŒÉÈÀÇÑÖÜ" "\u0301\u0308\u0327\u0307" "ḱὰἀ" "ΑΒΣ" "АБВ"


def vocabulary(cased):
    """The uncased one holds no token that lower case changes; the cased one has capitals and accents too."""
    letters = string.ascii_lowercase + string.digits + LETTERS
    words = list(WORDS)
    if cased:
        letters += string.ascii_uppercase + ACCENTED
        words += ["The", "Cat", "Café", "naïve", "İstanbul", "Straße"]
    pieces = [*SPECIAL, *string.punctuation, *letters, *("##" + letter for letter in letters), *words]
    return list(dict.fromkeys(pieces))


TEXTS = [
    "",
    " \t\n\r ",
    "The cat sat on the mat.",
    "unhappy UNHAPPY Unhappys",
    "Café naïve RÉSUMÉ résumé",
    "Cafe\u0301 nai\u0308ve",  # accents as combining marks
    "İstanbul Iıİi STRASSE Straße ẞ",
    "Łódź Đorđe Ærø œuvre Þór",
    "中文字 and 漢字 mixed日本語の text カタカナ ﾊﾝｶｸ ｗｉｄｅ",
    "𠀀𠮷 \u2f00 \uf900",  # CJK beyond the basic plane, radicals, compatibility
    "한국 가나 \u1112\u1161\u11ab",  # Hangul, composed and not
    "😀👍🏽 👨\u200d👩\u200d👧 🇫🇷 cat😀sat",
    "a\u0000b\u0001c\u001b[0m \u007f\u0085d",
    "\ufeffthe\ufeff cat\u200b sat\u00ad on\u2060mat \ufffd",
    "the\u00a0cat\u2003sat\u3000on\u2028the\u2029mat",
    "x" * 100,
    "x" * 101,
    "é" * 60 + " " + "е\u0308" * 60,
    "the " * 200,
    "שלום עולם, the אבג",
    "السلام عليكم؟ مَرْحَبًا ١٢٣",
    "\u202ethe cat\u202c \u2067אב\u2069 \u200fa\u200e",
    "नमस्ते ไทยคำ",
    "don't re-do e.g. U.S.A. it's",
    "!!!???...---___***",
    "$5.00+tax=€6,50 (20%) #1 @x a_b ~^`|\\",
    "“quoted” ‘single’ «guillemets» … — ¿¡",
    "the [MASK] sat [SEP] [CLS][PAD] [UNK]",
    "x[MASK]y [mask] [ MASK ] [MASK",
    "##ing cat##s ##",
    "ﬁne ª²½ ᴬ 𝐚𝐛 ™©°",
    "ΑΒΣ αβς Σίσυφος ὰἀ",
    "АБВ ёлка їжак",
    "e" + "\u0301" * 50 + " Z̸͑̈a̷͛l̵g̶o",
    "http://example.com/?q=a&b=c#d user@example.com",
]
