"""HTTP for operators: health, metrics, effective configuration."""
