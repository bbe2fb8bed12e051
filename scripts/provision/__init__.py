"""Fetches, verifies and places what building, running and testing cutout needs beside cargo."""
