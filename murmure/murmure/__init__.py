"""Murmure: the command line and the whole city in one process."""
