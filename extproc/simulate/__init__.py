"""What a policy would give on a recorded trace: engines, gateway and metrics as discrete events, exact and seeded.

It runs the real deciding code of `pool`, and no network.
"""
