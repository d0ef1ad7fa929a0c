"""p2pser: decentralised, peer-to-peer gossip federated learning for speech emotion recognition."""

__version__ = "0.1.0"
