"""timm models as backbones for probekit, two small ImageNet networks included."""
