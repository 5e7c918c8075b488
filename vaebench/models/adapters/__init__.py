"""Model families, one file each: network and adapter."""
