"""Values as a command line has them: text that stands for a number, a flag, or nothing.

Rules: pure; whether a value is allowed is for its owner to say.
"""

_WORDS: dict[str, object] = {"none": None, "true": True, "false": False}


def read_scalar(text: str) -> object:
    """Return the number, the flag or the None that `text` spells, or the text itself."""
    text = text.strip()
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            pass
    return text
