"""Text for a terminal from values that anybody may have written."""

import unicodedata

# Control and format characters (escape codes, changes of direction), halves of surrogate pairs,
# line separators: a terminal obeys them, or cannot write them.
_UNPRINTABLE = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def plain(value: object, max_length: int) -> str:
    """Return a value as one line of at most `max_length` characters, cut with an ellipsis."""
    text = str(value)
    cut = text if len(text) <= max_length else f"{text[: max_length - 1]}…"
    return "".join("�" if unicodedata.category(char) in _UNPRINTABLE else char for char in cut)
