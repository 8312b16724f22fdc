"""Tests of the detector of secrets."""
