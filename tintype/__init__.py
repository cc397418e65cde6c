"""Tintype: a studio for generated images and video that people run themselves."""

from importlib.metadata import version

__version__ = version("tintype")
