"""Controls as backbones for probekit: image statistics, position, random convolutions."""
