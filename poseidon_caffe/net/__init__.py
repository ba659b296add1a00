"""The net: a graph of layers built from a NetParameter, and its executor."""
