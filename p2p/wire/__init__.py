"""Control messages between peers and with clients: sockets, sealed envelopes, links, drills."""
