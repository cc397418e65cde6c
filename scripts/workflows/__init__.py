"""The ComfyUI workflows that ship with Tintype, put together from shared pieces: what `tintype/catalog/workflows` holds."""
