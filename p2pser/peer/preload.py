"""What the forkserver imports once, so that local peers share its memory and start at once. It runs nothing."""

import gc

import msgpack
import numpy
import safetensors.numpy
import scipy.sparse.csgraph
import torch
import zmq

import p2pser.peer.runtime
import p2pser.topology.spec

__all__ = ["msgpack", "numpy", "p2pser", "safetensors", "scipy", "torch", "zmq"]

# The garbage collector writes into every object that it looks at: what is frozen stays shared with the children.
gc.collect()
gc.freeze()
