"""The endpoints of one model server: who is there, how loaded they are, and which one comes next.

Pure: `engines` does the I/O.
"""
