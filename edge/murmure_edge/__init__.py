"""The gateway: sensors in, sealed releases out."""
