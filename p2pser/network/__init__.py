"""IOThread between peers: pure machines (exchange, liveness, flow, keys) and the one I/O thread around them."""
