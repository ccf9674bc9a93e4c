"""The public site, drawn from the archive."""
