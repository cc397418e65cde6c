"""Whose turn it is with libraries that allow one at a time."""

import threading

ONE_MODEL_AT_A_TIME = threading.Lock()
"""While they load a model, diffusers and transformers change for the whole process how modules are made; what another
thread makes meanwhile would have no weights ("Cannot copy out of meta tensor")."""
