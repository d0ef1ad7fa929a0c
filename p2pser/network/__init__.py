"""Messages between peers: pure state machines (neighbour, exchange, flow), and the I/O thread that drives them."""
