"""The corpora that p2pser reads, one adapter a file."""
