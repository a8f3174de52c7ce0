"""Records, written down for other programs and for people."""
