"""LoRAs: read from the files people have, and at work side by side in one batch, nothing merged.

Callers write `from tintype.engine import loras` and `loras.Bank(...)`.
"""

from tintype.engine.loras.bank import Bank, LorasCrowdedError
from tintype.engine.loras.formats import LoraMisfitError, LoraUnsupportedError
from tintype.engine.loras.layers import install

__all__ = ["Bank", "LoraMisfitError", "LoraUnsupportedError", "LorasCrowdedError", "install"]
