"""torchvision's Faster R-CNN as backbones for probekit."""
