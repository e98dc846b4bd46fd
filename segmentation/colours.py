"""Colours of classes that have none of their own."""


def default_colours(count: int) -> list[list[int]]:
    """Colours that differ well for any number of classes: those of PASCAL VOC, whose bits spread the label's bits."""
    return [
        [sum((label >> 3 * bit + channel & 1) << 7 - bit for bit in range(8)) for channel in range(3)]
        for label in range(count)
    ]
