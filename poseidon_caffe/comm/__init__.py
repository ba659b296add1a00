"""The cluster: parameter server, factors and transport; knows `net.hooks` only."""
