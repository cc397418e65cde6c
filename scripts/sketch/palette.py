"""Colours that sentences can name, and the few that scenery is painted with, as sRGB bytes."""

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (220, 48, 47),
    "orange": (245, 133, 31),
    "yellow": (250, 207, 36),
    "green": (56, 161, 72),
    "teal": (18, 158, 160),
    "blue": (38, 98, 208),
    "purple": (134, 66, 184),
    "pink": (245, 150, 186),
    "brown": (124, 77, 45),
    "black": (30, 30, 34),
    "gray": (140, 143, 150),
    "white": (247, 247, 245),
}

# What a picture of shapes stands on when its sentence names no background.
PAPER = (240, 233, 219)
# The same for white shapes, which would not show on paper.
SLATE = (164, 182, 204)
