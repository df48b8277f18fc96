"""Local energy communities (paper 1, section III.A-B): the block that answers a reactive price."""
