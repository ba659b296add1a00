"""The cluster measured: hosts made of network namespaces, and what runs on them."""
