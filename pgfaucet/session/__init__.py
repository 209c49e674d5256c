"""One client's session: from its start-up packet to its last statement."""
