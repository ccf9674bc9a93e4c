"""The centre: sealed releases in, an archive and receipts out."""
