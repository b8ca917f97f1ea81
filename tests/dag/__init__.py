"""Linear structural equation models."""
