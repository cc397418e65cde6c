"""Sentences for meanings, in many wordings, and the vocabulary they are made of.

Training text also loses and gains words now and then, so that a sentence with words the model never met
still draws what the rest of it says.
"""

from __future__ import annotations

import random

from .meaning import THINGS, Figures, Meaning, Scene, Subject

SAME_COLOUR = {"gray": ("grey",), "purple": ("violet",), "teal": ("turquoise", "cyan"), "yellow": ("golden",)}
SAME_SHAPE = {
    "circle": ("disc", "dot", "ball"),
    "square": ("box",),
    "ring": ("hoop", "donut"),
    "diamond": ("rhombus",),
    "cross": ("plus",),
}
SAME_SIZE = {"small": ("small", "little", "tiny"), "large": ("large", "big", "huge")}
NUMBERS = {2: ("two", "2"), 3: ("three", "3"), 4: ("four", "4")}
PLURALS = {"cross": "crosses", "plus": "pluses", "box": "boxes", "rhombus": "rhombuses"}
RELATING = {
    "left": ("left of", "to the left of", "on the left of"),
    "right": ("right of", "to the right of", "on the right of"),
    "above": ("above", "over", "on top of"),
    "below": ("below", "under", "beneath"),
    "": ("and", "and", "next to", "beside", "with"),
}
PLACING = {
    "left": ("on the left", "at the left", "on the left side"),
    "right": ("on the right", "at the right", "on the right side"),
    "top": ("at the top", "on top", "near the top"),
    "bottom": ("at the bottom", "near the bottom"),
}
OPENINGS = (
    "a picture of", "an image of", "a drawing of", "an illustration of", "a painting of", "a photo of",
    "draw", "please draw", "show me", "paint",
)  # fmt: skip
GROUNDS = (
    "on a {} background",
    "on {}",
    "on a {} background",
    "with a {} background",
    "against a {} background",
)
LAND_WORDS = {
    "sea": ("the sea", "the ocean", "a calm sea", "the sea with waves", "a beach"),
    "hills": ("hills", "green hills", "rolling hills", "a meadow", "a landscape"),
    "mountains": ("mountains", "snowy mountains", "a mountain", "the mountains"),
    "desert": ("a desert", "the desert", "sand dunes", "desert"),
    "forest": ("a forest", "the forest", "the woods", "forest"),
    "snow": ("a snowy field", "snow", "a winter landscape", "winter"),
}
STANDING = {
    "sea": ("by the sea", "near the sea", "beside the sea", "by the ocean", "at the beach", "on the coast"),
    "hills": ("on a hill", "in the hills", "on green hills", "in a meadow"),
    "mountains": ("in the mountains", "in front of mountains", "below the mountains"),
    "desert": ("in the desert", "in a desert"),
    "forest": ("in the forest", "in a forest", "in the woods"),
    "snow": ("in the snow", "in winter", "in a snowy field"),
}
AFLOAT = ("on the sea", "at sea", "on the ocean", "on the water")
TIME_WORDS = {
    "day": ("by day", "in the daytime", "on a sunny day", "at noon", "under a blue sky"),
    "sunrise": ("at sunrise", "at dawn", "in the morning"),
    "sunset": ("at sunset", "at dusk", "in the evening"),
    "night": ("at night", "by night", "under the stars", "under the moon"),
}
SAME_THING = {
    "house": ("house", "house", "cottage", "cabin", "home"),
    "tree": ("tree",),
    "boat": ("boat", "sailboat", "sailing boat", "ship"),
    "lighthouse": ("lighthouse",),
    "cactus": ("cactus",),
    "windmill": ("windmill", "mill"),
    "castle": ("castle",),
}
STRANGE = "[UNK]"


def say(meaning: Meaning) -> str:
    """Give the plainest sentence for a meaning, the one benchmarks and captions use."""
    return _sentence(meaning, random.Random(0), plain=True)


def word(meaning: Meaning, rng: random.Random) -> str:
    """Give a sentence for a meaning in one of its many wordings, sometimes with strange or missing words."""
    if rng.random() < 0.3:
        return _sentence(meaning, rng, plain=True)
    sentence = _sentence(meaning, rng, plain=False)
    if rng.random() < 0.2:
        sentence = f"{rng.choice(OPENINGS)} {sentence}"
    if rng.random() < 0.12:
        words = [w for w in sentence.split() if w not in ("a", "an", "the")]
        sentence = " ".join(words)
    if rng.random() < 0.1:
        words = sentence.split()
        for _ in range(rng.randint(1, 3)):
            words.insert(rng.randint(0, len(words)), STRANGE)
        sentence = " ".join(words)
    return sentence


def vocabulary() -> list[str]:
    """Give every word that some sentence can hold, sorted."""
    from .meaning import LANDS, PAINTS, SHAPES, TIMES
    from .palette import COLOURS

    texts: list[str] = [
        "a an the of and on at in with is it",
        *COLOURS,
        *PAINTS,
        *SHAPES,
        *LANDS,
        *TIMES,
        *THINGS,
    ]
    tables = (
        SAME_COLOUR,
        SAME_SHAPE,
        SAME_SIZE,
        NUMBERS,
        RELATING,
        PLACING,
        LAND_WORDS,
        STANDING,
        TIME_WORDS,
    )
    for table in (*tables, SAME_THING):
        for wordings in table.values():
            texts.extend(wordings)
    texts += [*OPENINGS, *AFLOAT, *(g.format("") for g in GROUNDS)]
    texts += [_plural(w) for s in SHAPES for w in (s, *SAME_SHAPE.get(s, ()))]
    texts += ["in the top left corner", "in the upper lower right corner", "at bottom centre center middle"]
    return sorted({w for text in texts for w in text.split() if w != STRANGE})


def _sentence(meaning: Meaning, rng: random.Random, *, plain: bool) -> str:
    if isinstance(meaning, Scene):
        return _scene(meaning, rng, plain=plain)
    return _figures(meaning, rng, plain=plain)


def _figures(figures: Figures, rng: random.Random, *, plain: bool) -> str:
    first = _subject(figures.subjects[0], rng, plain=plain)
    if len(figures.subjects) == 2:
        second = _subject(figures.subjects[1], rng, plain=plain)
        relating = RELATING[figures.relation][0] if plain else rng.choice(RELATING[figures.relation])
        first = f"{first} {relating} {second}"
    elif figures.place:
        first = f"{first} {_place(figures.place, rng, plain=plain)}"
    if not figures.background:
        return first
    colour = _same(SAME_COLOUR, figures.background, rng, plain=plain)
    if plain:
        return f"{first} on {'an' if colour == 'orange' else 'a'} {colour} background"
    ground = rng.choice(GROUNDS).format(colour).replace("a orange", "an orange")
    order = rng.random()
    if order < 0.1:
        return f"{ground} {first}"
    return f"{first} {colour} background" if order < 0.2 else f"{first} {ground}"


def _subject(subject: Subject, rng: random.Random, *, plain: bool) -> str:
    colour = _same(SAME_COLOUR, subject.colour, rng, plain=plain)
    shape = _same(SAME_SHAPE, subject.shape, rng, plain=plain)
    words = [colour]
    if subject.size:
        words.insert(0, subject.size if plain else rng.choice(SAME_SIZE[subject.size]))
    if subject.count > 1:
        number = NUMBERS[subject.count][0] if plain else rng.choice(NUMBERS[subject.count])
        return " ".join([number, *words, _plural(shape)])
    return " ".join(["an" if words[0] == "orange" else "a", *words, shape])


def _place(place: str, rng: random.Random, *, plain: bool) -> str:
    if place in PLACING:
        return PLACING[place][0] if plain else rng.choice(PLACING[place])
    row, side = place.split()
    if plain:
        return f"in the {row} {side} corner"
    row = rng.choice((row, {"top": "upper", "bottom": "lower"}[row]))
    return rng.choice((f"in the {row} {side} corner", f"at the {row} {side}", f"in the {row} {side}"))


def _scene(scene: Scene, rng: random.Random, *, plain: bool) -> str:
    time = TIME_WORDS[scene.time][0] if plain else rng.choice(TIME_WORDS[scene.time])
    if scene.time == "day" and (plain or rng.random() < 0.4):
        time = ""
    if scene.thing:
        parts = [_thing(scene, rng, plain=plain), _standing(scene, rng, plain=plain), time]
    else:
        land = LAND_WORDS[scene.land][0] if plain else rng.choice(LAND_WORDS[scene.land])
        parts = [land, time]
        if time and not plain and rng.random() < 0.1:
            parts.reverse()
    return " ".join(part for part in parts if part)


def _thing(scene: Scene, rng: random.Random, *, plain: bool) -> str:
    name = scene.thing if plain else rng.choice(SAME_THING[scene.thing])
    words = [scene.paint, name] if scene.paint else [name]
    return " ".join(["an" if words[0] == "orange" else "a", *words])


def _standing(scene: Scene, rng: random.Random, *, plain: bool) -> str:
    usual = THINGS[scene.thing][0] == scene.land
    if usual and (plain or rng.random() < 0.5):
        return ""
    if scene.thing == "boat":
        return rng.choice(AFLOAT)
    return STANDING[scene.land][0] if plain else rng.choice(STANDING[scene.land])


def _same(table: dict[str, tuple[str, ...]], name: str, rng: random.Random, *, plain: bool) -> str:
    if plain or name not in table or rng.random() < 0.75:
        return name
    return rng.choice(table[name])


def _plural(shape: str) -> str:
    return PLURALS.get(shape, f"{shape}s")
