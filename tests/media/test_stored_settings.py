"""Settings that strangers wrote into files, as they are kept beside an upload."""

import unicodedata

import numpy as np

from tintype.media import encoding, operations
from tintype.media.settings_text import GenerationSettings, Lora

PIXELS = np.full((8, 8, 3), 127, np.uint8)


def test_recalled_settings_are_stored_without_what_nobody_sees():
    prompt = "a \u202ecastle\u2069 👩‍👩‍👧 ภาพน้ำ می‌خواهم\ufdd0"
    written = GenerationSettings(
        prompt=prompt, model="\ufeffbase\0", loras=(Lora(name="in\u200ek"),), extra={"Note": "\x1b!"}
    )
    examined = operations._examine(encoding.encode(PIXELS, "png", written))
    kept = operations._storable(examined.settings.model_dump(mode="json", exclude_none=True))
    assert kept["prompt"] == unicodedata.normalize("NFC", "a castle 👩‍👩‍👧 ภาพน้ำ می‌خواهم")
    assert (kept["model"], kept["loras"][0]["name"], kept["extra"]) == ("base", "ink", {"Note": "!"})
