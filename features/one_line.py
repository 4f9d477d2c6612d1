"""What a hostile file says, fit for a message: on one line, of some length, in characters."""

_LONGEST = 400


def one_line(text: object) -> str:
    r"""
    Give a text without what cannot be printed, cut in its middle to 400 characters.

    >>> one_line("a\nb\udcff")
    'a\\nb\\udcff'
    """
    said = str(text)
    if len(said) > _LONGEST:
        said = f"{said[: _LONGEST // 2]} … {said[-_LONGEST // 2 + 3 :]}"
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode() for one in said
    )
