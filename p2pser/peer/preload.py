"""The modules that the forkserver imports once, so that local peers share their memory and start quickly.

Every module that a peer imports lazily belongs here: otherwise each child imports it again, into memory of its own.
"""

import ctypes.util
import encodings.utf_8_sig
import gc
import multiprocessing.popen_forkserver
import multiprocessing.queues

import click
import msgpack
import numpy.ctypeslib
import numpy.fft
import numpy.ma
import numpy.random
import platformdirs
import safetensors.numpy
import soundfile
import torch
import zmq

import p2pser.corpora.synthetic
import p2pser.features.extractor
import p2pser.features.kinds.chroma
import p2pser.features.kinds.covariance
import p2pser.features.kinds.dynamics
import p2pser.features.kinds.functionals
import p2pser.features.kinds.logmel
import p2pser.features.kinds.mfcc
import p2pser.graph.spec
import p2pser.models.families.cnn1d
import p2pser.models.families.cnn1d_shallow
import p2pser.models.families.cnn2d
import p2pser.models.families.crnn
import p2pser.models.families.gru
import p2pser.models.families.lstm
import p2pser.models.families.mlp
import p2pser.models.networks.cnn1d
import p2pser.models.networks.cnn2d
import p2pser.models.networks.crnn
import p2pser.models.networks.mlp
import p2pser.models.networks.recurrent
import p2pser.models.widths
import p2pser.peer.launch
import p2pser.peer.process
import p2pser.training.learner
from p2pser.base.registries import CORPORA

__all__ = ["click", "ctypes", "encodings", "msgpack", "multiprocessing", "numpy", "p2pser", "platformdirs",
           "safetensors", "soundfile", "torch", "zmq"]

# Search the corpora of installed packages once, here: it would be a tenth of each child's processor time.
CORPORA.names()

# The garbage collector writes into every object that it visits: frozen objects stay shared with the children.
gc.collect()
gc.freeze()
