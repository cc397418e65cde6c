"""ComfyUI as a server that tests can start: it speaks the real wire format and is held to recordings of a real one."""
