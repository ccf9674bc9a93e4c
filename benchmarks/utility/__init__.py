"""The error of what is published, measured on recordings through the real kernel, beside bounds and other mechanisms.

`make bench-utility` writes docs/utility.md and its pictures. Nothing here is released to anyone: the exact values are
those of public recordings, and numpy and scipy may stand beside them.
"""
