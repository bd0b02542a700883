"""segment-anything for probekit: its encoders as backbones, its mask generator as label source."""
