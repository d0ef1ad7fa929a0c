"""A kind of graph for topology files: a ring around a hub."""

import networkx as nx

import p2pser


@p2pser.register_graph("wheel", fits=lambda peers: peers >= 4, needs="4 peers or more")
def wheel(peers: int) -> nx.Graph:
    """A ring around peer 0."""
    return nx.wheel_graph(peers)
