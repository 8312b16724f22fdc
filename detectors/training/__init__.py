"""Trains the local classifier; a program of its own that is not part of the package which users install."""
