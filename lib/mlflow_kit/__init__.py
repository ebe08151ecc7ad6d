"""Code that the three charms of the bundle share; packed into each of them under ``lib/``."""
