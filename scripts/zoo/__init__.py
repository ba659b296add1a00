"""The model zoo's sources: each family of nets is one short file."""
