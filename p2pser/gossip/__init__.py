"""The gossip algorithms, written once over the Mixer's verbs."""
