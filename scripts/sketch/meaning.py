"""What a sentence means, as frozen values: the ground truth that drawing, wording and scoring share.

A meaning is either `Figures` (one or two coloured shapes) or a `Scene` (a landscape at a time of day).
About one meaning in twenty is held out: training never sees it, the benchmark asks only for those.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass

from .palette import COLOURS

SHAPES = ("circle", "square", "triangle", "star", "ring", "diamond", "heart", "cross")
SIZES = ("small", "", "large")
RELATIONS = ("left", "right", "above", "below")
OPPOSITE = {"left": "right", "right": "left", "above": "below", "below": "above"}
# Where one shape stands, as fractions of width and height; y grows downwards.
PLACES: dict[str, tuple[float, float]] = {
    "": (0.5, 0.5),
    "left": (0.24, 0.5),
    "right": (0.76, 0.5),
    "top": (0.5, 0.24),
    "bottom": (0.5, 0.76),
    "top left": (0.24, 0.24),
    "top right": (0.76, 0.24),
    "bottom left": (0.24, 0.76),
    "bottom right": (0.76, 0.76),
}
TIMES = ("day", "sunrise", "sunset", "night")
# Things a scene can hold, with the lands they stand in; the first is where they stand when no land is named.
THINGS: dict[str, tuple[str, ...]] = {
    "house": ("hills", "sea", "mountains", "forest", "desert", "snow"),
    "tree": ("hills", "mountains", "snow", "sea"),
    "boat": ("sea",),
    "lighthouse": ("sea",),
    "cactus": ("desert",),
    "windmill": ("hills", "sea"),
    "castle": ("hills", "mountains", "snow"),
}
LANDS = ("sea", "hills", "mountains", "desert", "forest", "snow")
PAINTED_THINGS = ("house", "boat")
PAINTS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "white")


@dataclass(frozen=True, kw_only=True)
class Subject:
    """`count` shapes (1 to 4) of one colour; `size` is "small", "" or "large"."""

    colour: str
    shape: str
    size: str = ""
    count: int = 1


@dataclass(frozen=True, kw_only=True)
class Figures:
    """One subject at a `place`, or two of which the first is `relation` ("" = beside, either way) the second.

    `background` is a colour's name, or "" where the sentence leaves it open.
    """

    subjects: tuple[Subject, ...]
    relation: str = ""
    place: str = ""
    background: str = ""


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A `land` at a `time`, with one `thing` in it or none; `paint` colours some things."""

    land: str
    time: str = "day"
    thing: str = ""
    paint: str = ""


Meaning = Figures | Scene


def showcase() -> tuple[Meaning, ...]:
    """Give the meanings people are shown first; they are always trained on, never held out."""
    star = Subject(colour="yellow", shape="star", size="small")
    square = Subject(colour="green", shape="square")
    return (
        Figures(subjects=(Subject(colour="red", shape="circle"),), background="blue"),
        Figures(subjects=(star, square), relation="left", background="white"),
        Scene(land="sea", time="sunset", thing="house"),
        Scene(land="mountains", time="night"),
        Scene(land="sea", time="night", thing="lighthouse"),
    )


def key(meaning: Meaning) -> str:
    """Give one text per meaning: `a` left of `b` and `b` right of `a` share it."""
    if isinstance(meaning, Scene):
        return f"scene/{meaning.land}/{meaning.time}/{meaning.thing}/{meaning.paint}"
    names = [f"{s.count} {s.size} {s.colour} {s.shape}" for s in meaning.subjects]
    relation = meaning.relation
    if relation in ("right", "below") or (not relation and len(names) == 2 and names[0] > names[1]):
        names.reverse()
        relation = OPPOSITE.get(relation, "")
    return f"figures/{'+'.join(names)}/{relation}/{meaning.place}/{meaning.background}"


def is_held_out(meaning: Meaning) -> bool:
    """Tell whether training must not see this meaning: 5 % of figures, by a hash, never the showcase.

    Scenes are few and judged by eye; figures are scored, so only they need unseen sentences.
    """
    if isinstance(meaning, Scene) or key(meaning) in _SHOWN:
        return False
    digest = hashlib.sha256(key(meaning).encode()).digest()
    return int.from_bytes(digest[:4], "big") % 20 == 0


_SHOWN = frozenset(key(meaning) for meaning in showcase())


def draw_lots(rng: random.Random, *, held_out: bool = False) -> Meaning:
    """Give a random meaning for training, or one of the held-out figures."""
    while True:
        if held_out:
            meaning: Meaning = _figures(rng)
        elif rng.random() < 0.06:
            meaning = rng.choice(showcase())
        else:
            meaning = _figures(rng) if rng.random() < 0.7 else _scene(rng)
        if is_held_out(meaning) == held_out:
            return meaning


def _figures(rng: random.Random) -> Figures:
    background = rng.choice(list(COLOURS)) if rng.random() < 0.85 else ""
    colours = [colour for colour in COLOURS if colour != background]
    kind = rng.random()
    if kind < 0.4:
        first = _subject(rng, colours, sized=0.35)
        second = _subject(rng, colours, sized=0.35)
        relation = rng.choice(RELATIONS) if rng.random() < 0.88 else ""
        return Figures(subjects=(first, second), relation=relation, background=background)
    if kind < 0.55:
        subject = _subject(rng, colours, sized=0.3)
        counted = Subject(colour=subject.colour, shape=subject.shape, size=subject.size, count=rng.randint(2, 4))
        return Figures(subjects=(counted,), background=background)
    place = rng.choice(list(PLACES)[1:]) if kind < 0.7 else ""
    return Figures(subjects=(_subject(rng, colours, sized=0.5),), place=place, background=background)


def _subject(rng: random.Random, colours: list[str], *, sized: float) -> Subject:
    size = rng.choice(("small", "large")) if rng.random() < sized else ""
    return Subject(colour=rng.choice(colours), shape=rng.choice(SHAPES), size=size)


def _scene(rng: random.Random) -> Scene:
    time = rng.choice(TIMES)
    if rng.random() < 0.3:
        return Scene(land=rng.choice(LANDS), time=time)
    thing = rng.choices(tuple(THINGS), weights=(4, 2, 2, 2, 1, 1, 1))[0]
    paint = rng.choice(PAINTS) if thing in PAINTED_THINGS and rng.random() < 0.35 else ""
    lands = THINGS[thing]
    land = lands[0] if rng.random() < 0.4 else rng.choice(lands)
    return Scene(land=land, time=time, thing=thing, paint=paint)
