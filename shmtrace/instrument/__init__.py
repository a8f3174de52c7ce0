"""Bridges: what other libraries and the interpreter tell, recorded.  Each is imported when it is asked for."""
