"""ComfyUI as a second engine: its wire, the workflows that run on it, and the provider over both."""
