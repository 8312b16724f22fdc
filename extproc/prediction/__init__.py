"""How long an answer will be, learned online from the answers before it.

Pure; nothing here knows what the figure is for.
"""
