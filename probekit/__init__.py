"""Which channels of a frozen vision model carry a concept, how few suffice, and how sure are we."""
