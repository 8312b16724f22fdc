"""What is wrong with a configuration as a whole, a file for each concern.

A check reads resources and gives problems; it changes nothing.
"""
