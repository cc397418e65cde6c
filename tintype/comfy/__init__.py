"""ComfyUI as a second engine: servers elsewhere make the pictures, workflows say how."""
