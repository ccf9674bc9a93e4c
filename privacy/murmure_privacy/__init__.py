"""The privacy kernel: readings in, releases out."""
