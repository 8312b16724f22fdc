"""The default policy in front of harmless traffic. Its texts are written by hand, in `*.txt` of this folder."""
