"""The declarative API: one file per kind, loaded strictly, checked as a whole, frozen into one snapshot."""
