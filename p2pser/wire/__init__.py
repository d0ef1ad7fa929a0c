"""The bytes of the messages between peers, and the codecs of rows. No socket, no clock, no thread."""
