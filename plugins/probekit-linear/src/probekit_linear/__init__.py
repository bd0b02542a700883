"""Linear probe families for probekit: the L1 logistic path, L2 on top-k subsets, polynomial."""
