"""Endpoints of one model server: who is there, how loaded they are, and which one comes next."""
