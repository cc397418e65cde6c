"""The ComfyUI workflows that ship with Tintype: the pieces that `tintype/catalog/workflows` is put together from."""
