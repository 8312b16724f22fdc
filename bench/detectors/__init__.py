"""Quality and cost of the detectors."""
