"""What a peer measures: of its host, itself, its links, the agreement, and what it trains."""
