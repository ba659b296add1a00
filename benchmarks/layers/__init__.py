"""The speed of every layer type on shapes that nets have."""
