"""Label sources for probekit: mask folders and COCO instances."""
