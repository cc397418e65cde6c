"""The log of what safety checks decided, and the pause that follows repeated blocks."""
