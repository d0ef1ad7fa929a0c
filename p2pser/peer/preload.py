"""What the forkserver imports once, so that local peers share its memory and start at once. It runs nothing."""

import msgpack
import numpy
import torch
import zmq

import p2pser.peer.runtime
import p2pser.topology.spec

__all__ = ["msgpack", "numpy", "p2pser", "torch", "zmq"]
