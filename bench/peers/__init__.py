"""Runs the same photos through cutout, rembg and transparent-background, with the same weights."""
