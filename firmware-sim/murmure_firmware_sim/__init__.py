"""Emulated sensors on pseudo-terminals; imports nothing of the rest on purpose."""
