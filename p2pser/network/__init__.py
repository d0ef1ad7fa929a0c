"""IOThread between peers: pure machines (neighbour, exchange, flow, keys) and the one I/O thread around them."""
