"""Tintype: a studio for generated images and video that people run themselves."""

__version__: str


def __getattr__(name: str) -> str:
    """`__version__`, read when somebody asks: that takes as long as a small command."""
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import version

    return version("tintype")
